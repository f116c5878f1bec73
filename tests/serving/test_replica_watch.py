"""Gateways follow which replicas are drained, tell how those stand, and hear what others put to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from support.drivers import answer
from support.replicas import ReplicaSet, over
from support.serving import House, until
from support.workspace_ledger import SQLITE
from tailorbird.domain.engine_replica import ReplicaDrain, ReplicaStanding
from tailorbird.domain.errors import Unavailable
from tailorbird.ports.ledger import Ledger
from tailorbird.serving import EngineReplicas, ReplicaWatch, replica_watch


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads, and tells what has changed."""
    for name in ("_READ_EVERY", "_TELL_EVERY"):
        monkeypatch.setattr(replica_watch, name, 0.0)


@pytest.fixture
def replicas(tmp_path: Path) -> ReplicaSet:
    return ReplicaSet(tmp_path, 2)


def watch(replicas: ReplicaSet, driver: EngineReplicas, gateway: str) -> ReplicaWatch:
    return ReplicaWatch(replicas.house.ledger, replicas.house.clock, driver, gateway, "acme")


def drain(house: House, *addresses: str) -> None:
    with house.ledger.system() as system:
        drained = tuple(ReplicaDrain(address=address) for address in addresses)
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"drained": drained}))


def told(house: House) -> dict[str, tuple[ReplicaStanding, ...]]:
    with house.ledger.system(write=False) as system:
        return system.gateways.replicas(house.clock.now() - timedelta(seconds=15))


def test_every_gateway_goes_by_a_drain_and_says_so_also_after_it_was_started_again(replicas: ReplicaSet) -> None:
    async def story() -> None:
        drivers = [replicas.driver, over(replicas.engines)]
        watches = [watch(replicas, driver, f"gateway-{number}") for number, driver in enumerate(drivers)]
        for one in watches:
            await one.start()
        try:
            assert [one.drained for one in told(replicas.house)["gateway-1"]] == [False, False]
            drain(replicas.house, "1")
            await until(lambda: all([one.drained for one in driver.standing()] == [True, False] for driver in drivers))
            await until(lambda: {seen[0].is_empty for seen in told(replicas.house).values()} == {True})
            again = over(replicas.engines)
            await watch(replicas, again, "gateway-2").follow()
            await again.load(replicas.request(replicas.releases[0]))
            assert replicas.holders(replicas.releases[0]) == [1]
            drain(replicas.house)
            await until(lambda: not any(one.drained for driver in drivers for one in driver.standing()))
        finally:
            for one in watches:
                await one.stop()
        assert told(replicas.house).keys() == {"gateway-2"}, "who ends takes back what was told"

    asyncio.run(story())


def test_a_gateway_leaves_others_their_part_of_a_replica(tmp_path: Path) -> None:
    """Six requests at a time: one gateway takes all of them while nobody else asks; then each has its half."""
    replicas = ReplicaSet(tmp_path, 1, most=6)
    release = replicas.releases[0]

    async def story() -> None:
        drivers = [replicas.driver, over(replicas.engines, most=6)]
        watches = [watch(replicas, driver, f"gateway-{number}") for number, driver in enumerate(drivers)]
        (engine,) = replicas.engines
        engine.gate.clear()

        async def looks() -> None:
            for one in (*watches, *watches):
                await one.follow()

        async def ask(gateway: int, count: int) -> list[asyncio.Task[Any]]:
            asking = [asyncio.create_task(_ask(drivers[gateway], release)) for _ in range(count)]
            await asyncio.sleep(0.01)
            return asking

        for driver in drivers:
            await driver.load(replicas.request(release))
        await looks()
        first = await ask(0, 12)
        assert len(engine.asked) == 6
        await looks()
        second = await ask(1, 12)
        assert len(engine.asked) == 9, "its part, whatever the other has"
        await looks()
        engine.gate.set()
        await asyncio.gather(*first, *second)
        assert len(engine.asked) == 24

    asyncio.run(story())


async def _ask(driver: EngineReplicas, release: str) -> None:
    await answer(driver, release, "where is my parcel")


def test_a_drain_that_the_log_does_not_anchor_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "engines").mkdir()
    house = House(tmp_path, ledger_kind=SQLITE)
    replicas = ReplicaSet(tmp_path / "engines", 2)

    async def story() -> None:
        one = ReplicaWatch(house.ledger, house.clock, replicas.driver, "gateway", "acme")
        await one.follow()
        with create_engine(f"sqlite:///{house.record_file}").begin() as connection:
            forced = {"drained": '[{"address":"1","forced":true}]'}
            connection.execute(text("UPDATE tenants SET drained = :drained WHERE name = 'acme'"), forced)
        await one.follow()
        assert not any(standing.drained for standing in replicas.driver.standing())
        assert "audit verify" in caplog.text

    asyncio.run(story())
    house.ledger.close()


def test_while_the_record_is_away_replicas_stay_as_they_are(replicas: ReplicaSet) -> None:
    class Away:
        away = False

        def pulse(self) -> object | None:
            return None

        @contextmanager
        def system(self, *, write: bool = True) -> Iterator[Any]:
            if self.away:
                raise Unavailable("the record is away", "wait", code="database_unreachable")
            with replicas.house.ledger.system(write=write) as system:
                yield system

    async def story() -> None:
        record: Any = Away()
        ledger: Ledger = record
        one = ReplicaWatch(ledger, replicas.house.clock, replicas.driver, "gateway", "acme")
        drain(replicas.house, "2")
        await one.follow()
        record.away = True
        await one.loop.round()
        assert [standing.drained for standing in replicas.driver.standing()] == [False, True]
        assert one.loop.failures == 1
        record.away = False
        drain(replicas.house)
        await one.follow()
        assert not any(standing.drained for standing in replicas.driver.standing())

    asyncio.run(story())


def test_a_defect_does_not_end_the_watch(replicas: ReplicaSet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    standing, broken = EngineReplicas.standing, [True]

    def odd(driver: EngineReplicas) -> tuple[ReplicaStanding, ...]:
        if broken:
            raise RuntimeError("odd")
        return standing(driver)

    async def story() -> None:
        one = watch(replicas, replicas.driver, "gateway")
        await one.start()
        try:
            monkeypatch.setattr(EngineReplicas, "standing", odd)
            await until(lambda: "a defect: RuntimeError" in caplog.text)
            broken.clear()
            drain(replicas.house, "2")
            await until(lambda: [each.drained for each in replicas.driver.standing()] == [False, True])
        finally:
            await one.stop()

    asyncio.run(story())
