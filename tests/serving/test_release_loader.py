"""What is loaded first: what somebody waits for, then what the record asked for last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from support.serving import DirectDriver, House, until
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.reconciler import ReleaseLoader

AWAY = Unavailable("away", "wait", code="engine_unavailable")


def request(release: Digest, tenant: str = "acme") -> LoadRequest:
    return LoadRequest(tenant=tenant, release=release, purpose="production")


def played(house: House, story: Callable[[ReleaseLoader, DirectDriver], Awaitable[None]]) -> list[Digest]:
    """The loads of a story, in order."""
    driver = DirectDriver(house)

    async def told() -> None:
        loader = ReleaseLoader(driver, lambda _: None)
        await loader.refresh()
        try:
            await story(loader, driver)
        finally:
            await loader.stop()

    asyncio.run(told())
    return driver.loads


def needed(house: House, *numbers: int, tenant: str = "acme") -> dict[Digest, LoadRequest]:
    return {(made := house.release(number, tenant)): request(made, tenant) for number in numbers}


async def full(loader: ReleaseLoader, driver: DirectDriver, busy: dict[Digest, LoadRequest], rest: dict[Digest, LoadRequest]) -> None:
    """Every place taken by a load that does not end, and others waiting."""
    driver.held_up = {release: asyncio.Event() for release in busy}
    loader.want(busy | rest)
    await until(lambda: set(driver.loads) == set(busy))


def let_go(driver: DirectDriver) -> None:
    for event in driver.held_up.values():
        event.set()


def test_what_the_record_asks_for_later_does_not_wait_for_thousands(house: House) -> None:
    """An engine started anew lacks them all, and meanwhile a name is rolled back to a release that it lacks, too."""
    busy, rest, back = needed(house, *range(4)), needed(house, *range(4, 30)), needed(house, 99)

    async def story(loader: ReleaseLoader, driver: DirectDriver) -> None:
        await full(loader, driver, busy, rest)
        loader.want(back | busy | rest)
        let_go(driver)
        await until(lambda: len(loader.loaded) == 31)

    loads = played(house, story)
    assert loads[4:] == [*back, *rest]


def test_what_somebody_waits_for_comes_first(house: House) -> None:
    busy, rest = needed(house, *range(4)), needed(house, *range(4, 20))
    waited = list(rest)[7:9]

    async def story(loader: ReleaseLoader, driver: DirectDriver) -> None:
        await full(loader, driver, busy, rest)
        loader.hurry(["sha256:" + "0" * 64, *waited])  # nobody wants the first loaded
        let_go(driver)
        await until(lambda: len(loader.loaded) == 20)

    loads = played(house, story)
    assert loads[4:6] == waited
    assert len(loads) == len(set(loads)) == 20


def test_an_engine_that_is_gone_is_not_asked_for_each_of_thousands(house: House) -> None:
    wanted = needed(house, *range(40))

    async def story(loader: ReleaseLoader, driver: DirectDriver) -> None:
        asked = []

        async def load(request: LoadRequest) -> None:
            asked.append(request.release)
            raise AWAY

        driver.load = load  # type: ignore[method-assign]
        loader.want(wanted)
        await until(lambda: not any(map(loader.is_under_way, wanted)))
        assert len(asked) <= 4
        assert not any(map(loader.failure, wanted))
        del driver.load  # type: ignore[method-assign]
        await asyncio.sleep(0.6)
        loader.want(wanted)
        await until(lambda: len(loader.loaded) == 40)

    assert len(played(house, story)) == 40
