"""Replicas of an engine: who is asked, what is copied, and what becomes of requests whose replica goes away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random

import pytest

from support.drivers import answer
from support.effects import ToldProofs
from support.serving import DirectDriver, House
from tailorbird.domain.errors import Corrupt, NotFound, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, LoadRequest
from tailorbird.serving import EffectChecks, EngineReplicas, engine_replicas

GONE = Unavailable("the engine cannot be reached", "h", code="engine_unavailable")


class Replica(DirectDriver):
    """A replica whose answers may be held up, or break off after their first piece."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.asked: list[Digest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.breaks_off = False

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        self._check()
        self.asked.append(release)
        await self.gate.wait()
        if self.breaks_off:
            yield Chunk(text="a")
            raise GONE
        async for chunk in super().stream(release, prompt, sampling, groups):
            yield chunk

    def restart(self) -> None:
        """It answers as before, and holds nothing."""
        for release in self.engine.loaded():
            self.engine.unload(release)


class Set:
    """Some replicas, and releases that they may load."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.house = House(folder)
        self.engines = [Replica(self.house) for _ in range(count)]
        self.driver = EngineReplicas(self.engines, Random(7))
        self.releases = [self.house.release(n, task=TaskKind.GENERATE) for n in range(1, 7)]

    def request(self, release: Digest, *, pinned: bool = False) -> LoadRequest:
        return LoadRequest(tenant="acme", release=release, purpose="production", pinned=pinned)

    def holders(self, release: Digest) -> list[int]:
        return [place for place, engine in enumerate(self.engines) if release in engine.engine.loaded()]

    async def asked(self, release: Digest) -> str:
        return (await answer(self.driver, release, "where is my parcel"))[0]


@pytest.fixture
def replicas(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_releases_are_spread_and_each_is_asked_where_it_is(replicas: Set) -> None:
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


def test_the_less_busy_of_two_that_hold_a_release_is_asked(replicas: Set) -> None:
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
    replicas: Set, monkeypatch: pytest.MonkeyPatch
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
        monkeypatch.setattr(engine_replicas, "_COLD_AFTER", -1.0)
        assert set(await replicas.driver.loaded()) == {hot, cold}
        assert len(replicas.holders(hot)) == len(replicas.holders(cold)) == 1

    asyncio.run(story())


def test_requests_of_a_replica_that_goes_away_are_answered_by_another(replicas: Set) -> None:
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

    asyncio.run(story())


def test_one_that_was_started_anew_loads_again_before_it_answers(replicas: Set) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        whole = await replicas.asked(release)
        for engine in replicas.engines:
            engine.restart()
        assert await replicas.asked(release) == whole
        assert len(replicas.holders(release)) == 1

    asyncio.run(story())


def test_an_answer_that_has_begun_is_not_begun_again(replicas: Set) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        for engine in replicas.engines:
            engine.breaks_off = True
        with pytest.raises(Unavailable):
            await replicas.asked(release)
        assert sum(len(engine.asked) for engine in replicas.engines) == 1

    asyncio.run(story())


def test_where_none_answers_it_is_said_and_all_goes_on_when_one_comes_back(replicas: Set) -> None:
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


def test_a_replica_that_comes_back_drops_what_is_not_wanted_any_more(replicas: Set) -> None:
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


def test_who_holds_a_release_is_told_that_it_is_pinned_now(replicas: Set) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.driver.load(replicas.request(release))
        (place,) = replicas.holders(release)
        await replicas.driver.load(replicas.request(release, pinned=True))
        assert replicas.holders(release) == [place]
        assert replicas.engines[place].loads == [release, release]

    asyncio.run(story())


def test_what_is_unloaded_while_it_is_loaded_answers_nobody(replicas: Set) -> None:
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


def test_a_copy_shows_its_effect_before_it_answers(tmp_path: Path) -> None:
    """A replica that would apply it wrongly is never asked, and the others go on."""
    house = Set(tmp_path, 2)
    release = house.releases[0]
    refused = Corrupt("it differs", "h", code="adapter_differs")

    class Refusing(EffectChecks):
        async def load(self, request: LoadRequest) -> None:
            raise refused

    checks = [EffectChecks(house.engines[0], ToldProofs(None)), Refusing(house.engines[1], ToldProofs(None))]
    driver = EngineReplicas(checks, Random(1))

    async def story() -> None:
        while not house.holders(release):
            try:
                await driver.load(house.request(release))
            except Corrupt:
                assert await driver.loaded() == ()
        house.engines[0].gate.clear()
        waiting = [asyncio.create_task(answer(driver, release, "hello")) for _ in range(10)]
        await asyncio.sleep(0.05)
        house.engines[0].gate.set()
        assert len({text for text, _ in await asyncio.gather(*waiting)}) == 1
        assert house.engines[1].asked == []

    asyncio.run(story())


def test_what_replicas_do_is_added_up(replicas: Set) -> None:
    async def story() -> None:
        for release in replicas.releases[:2]:
            await replicas.driver.load(replicas.request(release))
        state = await replicas.driver.state()
        assert {one.release for one in state.releases} == set(replicas.releases[:2])
        one = await replicas.engines[0].state()
        assert state.memory_budget == 3 * one.memory_budget

    asyncio.run(story())
