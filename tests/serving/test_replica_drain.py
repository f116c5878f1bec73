"""Replicas that are drained, or go away: what they alone hold is loaded by others; and what is about to answer is held where it must."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from support.replicas import GONE, ReplicaSet
from support.serving import until
from tailorbird.domain.engine_replica import ReplicaDrain
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.value import Digest
from tailorbird.serving import replica_placement


@pytest.fixture
def replicas(tmp_path: Path) -> ReplicaSet:
    return ReplicaSet(tmp_path)


def drained(*places: int, forced: bool = False) -> list[ReplicaDrain]:
    return [ReplicaDrain(address=str(place + 1), forced=forced) for place in places]


async def all_loaded(replicas: ReplicaSet) -> None:
    for release in replicas.releases:
        await replicas.driver.load(replicas.request(release))


def held_by(replicas: ReplicaSet, place: int) -> list[Digest]:
    return [release for release in replicas.releases if place in replicas.holders(release)]


def test_a_drained_replica_is_asked_nothing_new_and_no_request_waits_for_a_load(replicas: ReplicaSet) -> None:
    async def story() -> None:
        await all_loaded(replicas)
        place = max(range(3), key=lambda place: len(held_by(replicas, place)))
        moved, engine = held_by(replicas, place), replicas.engines[place]
        engine.gate.clear()
        running = asyncio.create_task(replicas.asked(moved[0]))
        await until(lambda: engine.asked == [moved[0]])
        for other in replicas.engines:
            other.held_up = {release: asyncio.Event() for release in moved}
        replicas.driver.drain(drained(place))
        standing = replicas.driver.standing()[place]
        assert (standing.drained, standing.alone, standing.under_way, standing.is_empty) == (True, len(moved), 1, False)
        # Until another holds it, it is asked of this one: nobody waits.
        also = asyncio.create_task(replicas.asked(moved[0]))
        await until(lambda: engine.asked == [moved[0]] * 2)
        for other in replicas.engines:
            for event in other.held_up.values():
                event.set()
        await until(lambda: replicas.driver.standing()[place].alone == 0)
        for release in moved:
            assert await replicas.asked(release)
        assert engine.asked == [moved[0]] * 2, "others answer now"
        assert not replicas.driver.standing()[place].is_empty
        engine.gate.set()
        assert await running == await also
        assert replicas.driver.standing()[place].is_empty
        assert set(await replicas.driver.loaded()) == set(replicas.releases)

    asyncio.run(story())


def test_what_was_asked_last_is_moved_first(replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_placement, "_MOVED_AT_ONCE", 1)

    async def story() -> None:
        await all_loaded(replicas)
        replicas.driver.drain(drained(1, 2))
        await until(lambda: len(held_by(replicas, 0)) == 6)
        for release in reversed(replicas.releases):
            await replicas.asked(release)
        loads = [list(engine.loads) for engine in replicas.engines]
        replicas.driver.drain(drained(0, 2))
        await until(lambda: replicas.driver.standing()[0].alone == 0)
        missing = [release for release in replicas.releases if release not in loads[1]]
        assert replicas.engines[1].loads[len(loads[1]) :] == missing
        assert replicas.engines[2].loads == loads[2], "a drained one loads nothing"

    asyncio.run(story())


def test_what_no_other_can_load_stays_with_the_drained_one_and_is_told(replicas: ReplicaSet) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        (place,) = replicas.holders(release)
        replicas.house.refusals[release] = Unavailable("no memory", "h", code="memory_full")
        replicas.driver.drain(drained(place))
        for _ in range(3):
            await replicas.driver.loaded()
            assert await replicas.asked(release)
        assert replicas.driver.standing()[place].alone == 1
        tried = sum(len(engine.loads) for engine in replicas.engines)
        await replicas.driver.loaded()
        assert sum(len(engine.loads) for engine in replicas.engines) == tried, "it is not tried again at once"
        replicas.driver.drain(drained(place, forced=True))
        with pytest.raises(Unavailable):
            await replicas.asked(release)
        assert replicas.driver.standing()[place].is_empty

    asyncio.run(story())


def test_where_all_are_drained_by_force_nothing_answers_and_it_is_said_why(replicas: ReplicaSet) -> None:
    async def story() -> None:
        await all_loaded(replicas)
        replicas.driver.drain(drained(0, 1, 2, forced=True))
        with pytest.raises(Unavailable) as refused:
            await replicas.asked(replicas.releases[0])
        assert refused.value.error_code == "engine_drained"
        assert await replicas.driver.loaded() == ()
        replicas.driver.drain(drained(0, 1, forced=True))
        assert await replicas.asked(replicas.releases[0])
        assert 2 in replicas.holders(replicas.releases[0])

    asyncio.run(story())


def test_a_replica_that_is_put_back_is_asked_again(replicas: ReplicaSet) -> None:
    async def story() -> None:
        await all_loaded(replicas)
        replicas.driver.drain(drained(0, 1))
        await until(lambda: len(held_by(replicas, 2)) == 6)
        replicas.driver.drain(())
        before = [len(engine.asked) for engine in replicas.engines]
        for release in replicas.releases * 4:
            await replicas.asked(release)
        assert sum(len(engine.asked) > count for engine, count in zip(replicas.engines, before, strict=True)) == 3

    asyncio.run(story())


def test_what_a_dead_replica_was_asked_lately_is_loaded_elsewhere_before_it_is_asked(
    replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        await all_loaded(replicas)
        place = max(range(3), key=lambda place: len(held_by(replicas, place)))
        hot, *cold = held_by(replicas, place)
        monkeypatch.setattr(replica_placement, "_COLD_AFTER", 60.0)
        held = replicas.driver._replicas[place].held
        held |= dict.fromkeys(cold, time.monotonic() - 61)
        await replicas.asked(hot)
        replicas.engines[place].away = GONE
        await replicas.driver.loaded()
        await until(lambda: len(replicas.holders(hot)) == 2)
        assert [replicas.holders(release) for release in cold] == [[place]] * len(cold)

    asyncio.run(story())


def test_what_is_about_to_answer_is_held_by_as_many_as_its_share_takes(replicas: ReplicaSet) -> None:
    now, then, other = replicas.releases[:3]

    async def story() -> None:
        for release in (now, then):
            await replicas.driver.load(replicas.request(release))
        assert replicas.driver.prepare({now}, {then: 1.0}), "one replica answers, one holds it"
        for _ in range(2):
            await _copied(replicas, now)
        assert len(replicas.holders(now)) == 3
        assert replicas.driver.prepare({now}, {then: 0.33})
        assert not replicas.driver.prepare({now}, {then: 0.5})
        await until(lambda: replicas.driver.prepare({now}, {then: 0.5}))
        assert len(replicas.holders(then)) == 2
        assert not replicas.driver.prepare({now, then}, {then: 1.0})
        await until(lambda: replicas.driver.prepare({now, then}, {then: 1.0}))
        assert len(replicas.holders(then)) == 3
        assert replicas.driver.prepare({now}, {other: 1.0}), "what is not wanted here (an endpoint answers) holds nothing up"

    asyncio.run(story())


def test_a_copy_that_is_refused_or_takes_too_long_holds_no_name_up(replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    now, refused, slow = replicas.releases[:3]

    async def story() -> None:
        for release in (now, refused, slow):
            await replicas.driver.load(replicas.request(release))
        for _ in range(2):
            await _copied(replicas, now)
        replicas.house.refusals[refused] = Unavailable("no memory", "h", code="memory_full")
        await until(lambda: replicas.driver.prepare({now}, {refused: 1.0}))
        assert len(replicas.holders(refused)) == 1
        for engine in replicas.engines:
            engine.held_up[slow] = asyncio.Event()
        assert not replicas.driver.prepare({now}, {slow: 1.0})
        monkeypatch.setattr(replica_placement, "_PREPARED_WITHIN", 0.0)
        assert replicas.driver.prepare({now}, {slow: 1.0})
        await replicas.driver.close()

    asyncio.run(story())


async def _copied(replicas: ReplicaSet, release: Digest) -> None:
    """One replica more holds the release, because it is asked that much."""
    count = len(replicas.holders(release))
    for engine in replicas.engines:
        engine.gate.clear()
    waiting = []
    while len(replicas.holders(release)) == count:
        waiting.append(asyncio.create_task(replicas.asked(release)))
        await asyncio.sleep(0.002)
    for engine in replicas.engines:
        engine.gate.set()
    await asyncio.gather(*waiting)
