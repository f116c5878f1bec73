"""Names follow the record: loaded first, then live; former releases kept; failures contained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from support.doubles import MemoryEngine
from support.hosted import MODEL
from support.serving import DirectDriver, House, digest, until
from tailorbird.domain.deployment import Servable
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import Corrupt, Forbidden, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.reconciler import AliasRecord, Reconciler

BAD = Corrupt("adapter changed", "restore it", code="artifact_corrupt")
AWAY = Unavailable("away", "wait", code="engine_unavailable")


@asynccontextmanager
async def watching(house: House, driver: DirectDriver, keep_former: timedelta = timedelta(minutes=10)) -> AsyncIterator[Reconciler]:
    deployment = Reconciler(house.ledger, driver, house.clock, keep_former)
    await deployment.start()
    try:
        yield deployment
    finally:
        await deployment.stop()


def answers_with(deployment: Reconciler, path: str, *releases: str) -> bool:
    route = deployment.routes.live(path)
    return route is not None and tuple(target.release for target in route.alias.targets) == releases


def test_a_moved_alias_is_live_and_rollback_needs_no_load(house: House) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        first, second = house.release(1), house.release(2)
        house.point("routing", first)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", first))
            assert deployment.readiness().ready
            house.point("routing", second)
            await until(lambda: answers_with(deployment, "acme/routing", second))
            house.point("routing", first)
            await until(lambda: answers_with(deployment, "acme/routing", first))
            assert driver.loads == [first, second]
            assert driver.unloads == []

    asyncio.run(story())


def test_the_former_release_answers_until_the_new_one_is_loaded(house: House) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        first, second = house.release(1), house.release(2)
        house.point("routing", first)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", first))
            driver.load_seconds = 0.6
            house.point("routing", second)
            await until(lambda: second in driver.loads)
            assert answers_with(deployment, "acme/routing", first)
            assert not deployment.readiness().ready
            await until(lambda: answers_with(deployment, "acme/routing", second))

    asyncio.run(story())


def test_a_release_that_is_refused_leaves_the_former_one_answering(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        good, tampered = house.release(1), house.release(2)
        house.refusals[tampered] = BAD
        house.point("routing", good)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", good))
            house.point("routing", tampered)
            await until(lambda: driver.loads.count(tampered) >= 2)
            assert answers_with(deployment, "acme/routing", good)
            assert deployment.readiness().behind == 1
            del house.refusals[tampered]
            await until(lambda: answers_with(deployment, "acme/routing", tampered))

    asyncio.run(story())
    assert "artifact_corrupt" in caplog.text


def shadowed(house: House, release: str, shadow: str) -> None:
    alias = house.point("routing", release)
    with house.ledger.work("acme") as work:
        work.aliases.put(alias.model_copy(update={"version": alias.version + 1, "mirror": shadow}))


def has_shadow(deployment: Reconciler, shadow: str) -> bool:
    route = deployment.routes.live("acme/routing")
    return route is not None and route.mirror is not None and route.mirror.release == shadow


@pytest.mark.parametrize(
    "refusal",
    [
        BAD,
    ],
)
def test_a_shadow_that_cannot_be_loaded_holds_nothing_up(house: House, refusal: TailorbirdError) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        first, second, shadow = house.release(1), house.release(2), house.release(3)
        house.refusals[shadow] = refusal
        shadowed(house, first, shadow)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", first) and deployment.readiness().ready)
            shadowed(house, second, shadow)
            await until(lambda: answers_with(deployment, "acme/routing", second) and deployment.readiness().ready)
            del house.refusals[shadow]
            await until(lambda: has_shadow(deployment, shadow))

    asyncio.run(story())


class Refusing(MemoryEngine):
    """Loads anything but ``refused``."""

    def __init__(self, refused: set[Digest]) -> None:
        super().__init__()
        self._refused = refused

    def load(self, servable: Servable) -> None:
        if servable.id in self._refused:
            raise BAD
        super().load(servable)


def hosted_release(house: House) -> Digest:
    hosted = HostedModel(endpoint="outside", url="https://llm.example", model=MODEL, reported=MODEL)
    return house.release(9, hosted=hosted)


@pytest.mark.parametrize("fails", [False, True])
def test_a_gateway_is_ready_once_what_stands_in_for_a_hosted_model_is_loaded(house: House, fails: bool) -> None:
    """Until then callers would be given the errors of an endpoint that is away. One that cannot be loaded is not waited for."""

    async def story() -> None:
        former, hosted = house.release(1), hosted_release(house)
        house.point("routing", former)
        house.point("routing", hosted)
        refusing = set[Digest]()
        driver = DirectDriver(house, Refusing(refusing))
        driver.held_up[former] = asyncio.Event()
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", hosted))
            seen = deployment.readiness()
            assert (seen.ready, seen.engine, seen.live, seen.behind) == (False, True, 1, 1)
            refusing.update({former} if fails else ())
            driver.held_up[former].set()
            await until(lambda: deployment.readiness().ready)
            route = deployment.routes.live("acme/routing")
            assert route is not None
            assert (route.arms[hosted].fallback is None) == fails

    asyncio.run(story())


def test_names_that_do_not_answer_say_why_and_other_tenants_learn_nothing(house: House) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        house.point("routing", house.release(1))
        house.refusals[broken := house.release(2)] = BAD
        house.point("broken", broken)
        house.point("missing", digest("never released"))
        async with watching(house, driver) as deployment:
            resolve = deployment.routes.resolve
            await until(lambda: deployment.routes.live("acme/routing") is not None and bool(driver.loads.count(broken)))
            await asyncio.sleep(0.05)
            with pytest.raises(Unavailable, match="artifact_corrupt"):
                resolve("acme", "acme/broken")
            with pytest.raises(Unavailable):
                resolve("acme", "acme/missing")
            with pytest.raises(NotFound) as foreign:
                resolve("globex", "acme/routing")
            with pytest.raises(NotFound) as unknown:
                resolve("globex", "acme/nothing")
            assert foreign.value.as_dict() == {
                key: value.replace("acme/nothing", "acme/routing") for key, value in unknown.value.as_dict().items()
            }
            house.point("routing")
            await until(lambda: deployment.routes.live("acme/routing") is None)
            with pytest.raises(NotFound, match="withdrawn") as gone:
                resolve("acme", "acme/routing")
            assert gone.value.error_code == "model_not_found"
            with pytest.raises(NotFound) as typo:
                resolve("acme", "acme/rotuing")
            assert typo.value.error_code == "model_not_found"

    asyncio.run(story())


def test_what_an_alias_left_is_unloaded_after_the_window_but_not_while_it_answers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.reconciler._FULL_EVERY", 0.0)

    async def story() -> None:
        driver = DirectDriver(house)
        first, second = house.release(1), house.release(2)
        house.point("routing", first)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", first))
            house.point("routing", second)
            await until(lambda: answers_with(deployment, "acme/routing", second))
            with deployment.routes.using(first):
                house.clock.advance(timedelta(minutes=11))
                deployment.doubt()
                await asyncio.sleep(0.1)
                assert driver.unloads == []
            deployment.doubt()
            await until(lambda: driver.unloads == [first])
            assert answers_with(deployment, "acme/routing", second)

    asyncio.run(story())


def test_an_engine_that_was_restarted_is_loaded_again(house: House) -> None:
    async def story() -> None:
        driver = DirectDriver(house)
        release = house.release(1)
        house.point("routing", release)
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, "acme/routing", release))
            driver.away = AWAY
            deployment.doubt()
            await until(lambda: not deployment.readiness().engine)
            driver.engine.unload(release)
            driver.away = None
            await until(lambda: driver.loads == [release, release] and deployment.readiness().ready)

    asyncio.run(story())


def test_a_full_reading_finds_moves_that_the_count_does_not_show(house: House) -> None:
    """A server that took another's place may lack moves that were read, and count as many others by then."""
    house.point("routing", house.release(1))
    record = AliasRecord(house.ledger)
    record.read(full=True)
    moved = house.point("routing", house.release(2))
    with house.ledger.system(write=False) as system:
        record.moved = system.tenants.aliases_moved()
    assert record.read(full=False) == ()
    assert record.read(full=True) == {"acme/routing"}
    assert record.aliases["acme/routing"] == moved


class StrictDriver(DirectDriver):
    """Refuses what is not approved, for production; notes for which stage each release was admitted."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.approved: set[Digest] = set()
        self.admitted: list[tuple[Digest, str]] = []

    async def load(self, request: LoadRequest) -> None:
        if request.purpose == "production" and request.release not in self.approved:
            raise Forbidden("not approved", "approve it", code="not_approved")
        self.admitted.append((request.release, request.purpose))
        await super().load(request)


def refusal(deployment: Reconciler, path: str) -> str:
    """The code with which a name answers nobody; empty where it does."""
    try:
        deployment.routes.resolve("acme", path)
    except TailorbirdError as error:
        return error.error_code
    return ""


@pytest.mark.parametrize(
    "name",
    [
        "desk.staging",
    ],
)
def test_what_was_loaded_to_be_tried_answers_no_users(house: House, name: str) -> None:
    """Whatever its name ends with, and although the engine holds the release already."""

    async def story() -> None:
        driver, release = StrictDriver(house), house.release(1)
        house.point(name, release, stage="staging")
        async with watching(house, driver) as deployment:
            await until(lambda: answers_with(deployment, f"acme/{name}@staging", release))
            house.point(name, release)
            await until(lambda: refusal(deployment, f"acme/{name}") == "model_not_loaded")
            assert answers_with(deployment, f"acme/{name}@staging", release), "it is tried all the same"
            driver.approved.add(release)
            await until(lambda: answers_with(deployment, f"acme/{name}", release))
            assert driver.admitted == [(release, "staging"), (release, "production")]

    asyncio.run(story())
