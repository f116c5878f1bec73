"""Replicas of an engine: who is asked, what is copied, and what becomes of requests whose replica goes away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from support.drivers import answer
from support.effects import ToldProofs
from support.replicas import GONE, Replica, ReplicaSet, over
from support.serving import House, until
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, LoadRequest
from tailorbird.serving import EffectChecks, replica_placement


@pytest.fixture
def replicas(tmp_path: Path) -> ReplicaSet:
    return ReplicaSet(tmp_path)


def test_releases_are_spread_and_each_is_asked_where_it_is(replicas: ReplicaSet) -> None:
    async def story() -> None:
        for release in replicas.releases:
            await replicas.driver.load(replicas.request(release))
        counts = Counter(place for release in replicas.releases for place in replicas.holders(release))
        assert sum(counts.values()) == 6
        assert max(counts.values()) <= 3
        assert set(await replicas.driver.loaded()) == set(replicas.releases)
        for release in replicas.releases:
            assert await replicas.asked(release)
            (place,) = replicas.holders(release)
            assert release in replicas.engines[place].asked

    asyncio.run(story())


def test_the_less_busy_of_two_that_hold_a_release_is_asked(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.gate.clear()
        waiting = []
        for _ in range(60):
            waiting.append(asyncio.create_task(replicas.asked(release)))
            await asyncio.sleep(0.002)
        assert replicas.holders(release) == [0, 1, 2]
        counts = [len(engine.asked) for engine in replicas.engines]
        assert sum(counts) == 60
        assert max(counts) - min(counts) <= 6
        for engine in replicas.engines:
            engine.gate.set()
        assert len(set(await asyncio.gather(*waiting))) == 1

    asyncio.run(story())


def test_what_is_asked_more_than_a_replica_bears_is_copied_and_the_copy_goes_when_nobody_asks(
    replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot, cold = replicas.releases[:2]

    async def story() -> None:
        for release in (hot, cold):
            await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.gate.clear()
        waiting = []
        for _ in range(12):
            waiting.append(asyncio.create_task(replicas.asked(hot)))
            await asyncio.sleep(0.01)
        assert len(replicas.holders(hot)) >= 2
        assert len(replicas.holders(cold)) == 1
        for engine in replicas.engines:
            engine.gate.set()
        await asyncio.gather(*waiting)
        monkeypatch.setattr(replica_placement, "_COLD_AFTER", -1.0)
        assert set(await replicas.driver.loaded()) == {hot, cold}
        assert len(replicas.holders(hot)) == len(replicas.holders(cold)) == 1

    asyncio.run(story())


def test_requests_of_a_replica_that_goes_away_are_answered_by_another(replicas: ReplicaSet, caplog: pytest.LogCaptureFixture) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        whole = await replicas.asked(release)
        (place,) = replicas.holders(release)
        replicas.engines[place].away = GONE
        assert await asyncio.gather(*(replicas.asked(release) for _ in range(5))) == [whole] * 5
        assert len(replicas.holders(release)) == 2, "it was loaded elsewhere, once"
        assert await replicas.driver.ready()
        replicas.engines[place].away = None
        replicas.engines[place].restart()
        assert await replicas.driver.loaded() == (release,)
        assert {await replicas.asked(release) for _ in range(5)} == {whole}
        assert [record.message.split("(")[0] for record in caplog.records if record.levelname == "WARNING"] == [
            f"the replica {place + 1} of the engine does not answer ",
            f"the replica {place + 1} of the engine answers again, with 0 releases",
        ], "once, not at each request"

    asyncio.run(story())


def test_replicas_that_are_only_starting_are_not_said_to_have_gone(replicas: ReplicaSet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tailorbird.serving")

    async def story() -> None:
        for engine in replicas.engines:
            engine.away = GONE
        with pytest.raises(Unavailable):
            await replicas.driver.loaded()
        for engine in replicas.engines:
            engine.away = None
        assert await replicas.driver.loaded() == ()
        told = [record.message.split(" of the engine ")[1] for record in caplog.records]
        count = len(replicas.engines)
        assert [one.split(" (")[0] for one in told[:count]] == ["does not answer yet"] * count
        assert told[count:] == ["answers, with 0 releases"] * count
        assert {record.levelname for record in caplog.records[count:]} == {"INFO"}

    asyncio.run(story())


def test_one_that_was_started_anew_loads_again_before_it_answers(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        whole = await replicas.asked(release)
        for engine in replicas.engines:
            engine.restart()
        assert await replicas.asked(release) == whole
        assert len(replicas.holders(release)) == 1

    asyncio.run(story())


def test_an_answer_that_has_begun_is_not_begun_again(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.breaks_off = True
        with pytest.raises(Unavailable):
            await replicas.asked(release)
        assert sum(len(engine.asked) for engine in replicas.engines) == 1

    asyncio.run(story())


def test_where_none_answers_it_is_said_and_all_goes_on_when_one_comes_back(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.away = GONE
        with pytest.raises(Unavailable):
            await replicas.asked(release)
        with pytest.raises(Unavailable):
            await replicas.driver.loaded()
        with pytest.raises(Unavailable):
            await replicas.driver.state()
        assert not await replicas.driver.ready()
        replicas.engines[2].away = None
        replicas.engines[2].restart()
        await replicas.driver.loaded()
        assert await replicas.asked(release)
        assert replicas.holders(release)[-1] == 2

    asyncio.run(story())


def test_a_replica_that_comes_back_drops_what_is_not_wanted_any_more(replicas: ReplicaSet) -> None:
    gone = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(gone))
        (place,) = replicas.holders(gone)
        away = replicas.engines[place]
        away.away = GONE
        await replicas.driver.loaded()
        await replicas.driver.unload(gone)
        assert replicas.holders(gone) == [place]
        away.away = None
        assert await replicas.driver.loaded() == ()
        assert replicas.holders(gone) == []

    asyncio.run(story())


def test_who_holds_a_release_is_told_that_it_is_pinned_now(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        (place,) = replicas.holders(release)
        await replicas.driver.load(replicas.request(release, pinned=True))
        assert replicas.holders(release) == [place]
        assert replicas.engines[place].loads == [release, release]

    asyncio.run(story())


def test_what_is_unloaded_while_it_is_loaded_answers_nobody(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        for engine in replicas.engines:
            engine.held_up[release] = asyncio.Event()
        loading = asyncio.create_task(replicas.driver.load(replicas.request(release)))
        await asyncio.sleep(0.01)
        await replicas.driver.unload(release)
        for engine in replicas.engines:
            engine.held_up[release].set()
        with pytest.raises(NotFound):
            await loading
        assert replicas.holders(release) == []
        with pytest.raises(NotFound):
            await replicas.asked(release)

    asyncio.run(story())


class Refusing(Replica):
    """A replica that answers, and refuses what it is to load or, where ``asks``, what it is asked."""

    def __init__(self, house: House, error: TailorbirdError, *, asks: bool = False) -> None:
        super().__init__(house)
        self.error, self.asks, self.tried = error, asks, 0

    async def load(self, request: LoadRequest) -> None:
        if self.asks:
            return await super().load(request)
        self.tried += 1
        raise self.error

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        self.asked.append(release)
        raise self.error
        yield Chunk(text="")


DIFFERS = Corrupt("it differs", "h", code="adapter_differs")


def test_a_copy_that_is_refused_answers_nobody_and_is_not_tried_again_at_once(replicas: ReplicaSet) -> None:
    """A replica that would apply it wrongly is never asked, and the others go on; what is to be loaded goes elsewhere."""
    release, others = replicas.releases[0], replicas.releases[1:4]
    refusing = Refusing(replicas.house, DIFFERS)
    checks = [EffectChecks(replicas.engines[0], ToldProofs(None)), EffectChecks(refusing, ToldProofs(None))]
    driver = over(checks)

    async def story() -> None:
        for one in (release, *others):
            await driver.load(replicas.request(one))
        assert set(replicas.engines[0].engine.loaded()) == {release, *others}
        tried = refusing.tried
        replicas.engines[0].gate.clear()
        waiting = []
        for _ in range(20):
            waiting.append(asyncio.create_task(answer(driver, release, "hello")))
            await asyncio.sleep(0.002)
        replicas.engines[0].gate.set()
        assert len({text for text, _ in await asyncio.gather(*waiting)}) == 1
        assert refusing.asked == []
        assert refusing.tried - tried <= 1

    asyncio.run(story())


def test_what_all_refuse_is_refused_with_their_error(replicas: ReplicaSet) -> None:
    driver = over([Refusing(replicas.house, DIFFERS) for _ in range(3)])

    async def story() -> None:
        with pytest.raises(Corrupt):
            await driver.load(replicas.request(replicas.releases[0]))
        assert await driver.loaded() == ()
        with pytest.raises(NotFound):
            await answer(driver, replicas.releases[0], "hello")

    asyncio.run(story())


def test_what_is_no_fault_of_a_replica_takes_none_away(replicas: ReplicaSet) -> None:
    """A record that is away while something is to be loaded; a request that an engine ends with an error of its own."""
    away = Unavailable("the record cannot be reached", "h", code="database_unreachable")
    held, new = replicas.releases[:2]

    async def story() -> None:
        loading = over([Refusing(replicas.house, away) for _ in range(2)])
        with pytest.raises(Unavailable) as caught:
            await loading.load(replicas.request(new))
        assert caught.value.error_code == "database_unreachable"
        assert await loading.loaded() == ()
        engines = [Refusing(replicas.house, GONE, asks=True) for _ in range(2)]
        asked = over(engines)
        await asked.load(replicas.request(held))
        for _ in range(3):
            with pytest.raises(Unavailable):
                await answer(asked, held, "hello")
        assert sum(len(engine.asked) for engine in engines) == 3, "it is not passed on to one after another"
        assert await asked.loaded() == (held,)

    asyncio.run(story())


def test_what_replicas_do_is_added_up(replicas: ReplicaSet) -> None:
    async def story() -> None:
        for release in replicas.releases[:2]:
            await replicas.driver.load(replicas.request(release))
        state = await replicas.driver.state()
        assert {one.release for one in state.releases} == set(replicas.releases[:2])
        one = await replicas.engines[0].state()
        assert state.memory_budget == 3 * one.memory_budget

    asyncio.run(story())


def test_what_waits_for_room_is_counted_and_copied_where_there_is_room(tmp_path: Path) -> None:
    """Two requests at a time, though a replica is called hot from four on: another that has room loads a copy."""
    replicas = ReplicaSet(tmp_path, 2, most=2)
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.gate.clear()
            engine.held_up[release] = asyncio.Event()
        waiting = [asyncio.create_task(replicas.asked(release)) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert (await replicas.driver.state()).waiting == 3
        for engine in replicas.engines:
            engine.held_up[release].set()
        await until(lambda: sum(len(engine.asked) for engine in replicas.engines) == 4)
        assert replicas.holders(release) == [0, 1]
        assert (await replicas.driver.state()).waiting == 1
        for engine in replicas.engines:
            engine.gate.set()
        await asyncio.gather(*waiting)
        assert (await replicas.driver.state()).waiting == 0

    asyncio.run(story())
