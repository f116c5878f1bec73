"""Replicas of an engine: who is asked, and what becomes of requests whose replica goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from support.drivers import answer
from support.serving import DirectDriver, House
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, GenerateRequest, LoadRequest
from tailorbird.serving.engine_replicas import EngineReplicas

GONE = Unavailable("the engine cannot be reached", "h", code="engine_unavailable")


class Replica(DirectDriver):
    """Notes what it is asked; its answers may break off after their first piece."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.asked: list[Digest] = []
        self.breaks_off = False

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self._check()
        self.asked.append(request.release)
        if self.breaks_off:
            yield Chunk(text="a")
            raise GONE
        async for chunk in super().stream(request):
            yield chunk

    def restart(self) -> None:
        self.away = None
        for release in self.engine.loaded():
            self.engine.unload(release)


class Replicas:
    """Three of them, and releases that they may load."""

    def __init__(self, house: House) -> None:
        self.engines = [Replica(house) for _ in range(3)]
        self.driver = self.of_another_gateway()
        self.releases = [house.release(number, task=TaskKind.GENERATE) for number in range(1, 13)]

    def of_another_gateway(self) -> EngineReplicas:
        return EngineReplicas({f"http://10.0.0.{number}": engine for number, engine in enumerate(self.engines)})

    async def load(self, release: Digest) -> None:
        await self.driver.load(LoadRequest(tenant="acme", release=release, purpose="production"))

    async def ask(self, release: Digest) -> str:
        return (await answer(self.driver, release, "where is my parcel"))[0]

    def holders(self, release: Digest) -> list[Replica]:
        return [engine for engine in self.engines if release in engine.engine.loaded()]


@pytest.fixture
def replicas(house: House) -> Replicas:
    return Replicas(house)


def test_each_release_is_loaded_by_one_and_asked_there(replicas: Replicas) -> None:
    async def story() -> None:
        for release in replicas.releases:
            await replicas.load(release)
            assert await replicas.ask(release)
            (holder,) = replicas.holders(release)
            assert holder.asked[-1] == release
        assert all(engine.engine.loaded() for engine in replicas.engines), "they are spread"
        assert set((await replicas.driver.status()).loaded) == set(replicas.releases)
        other = replicas.of_another_gateway()
        await asyncio.gather(*(answer(other, release, "x") for release in replicas.releases))
        assert all(len(replicas.holders(release)) == 1 for release in replicas.releases), "gateways choose alike"

    asyncio.run(story())


def test_the_next_answers_for_one_that_is_away_and_loads_once(replicas: Replicas) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.load(release)
        whole = await replicas.ask(release)
        (home,) = replicas.holders(release)
        home.away = GONE
        assert await asyncio.gather(*(replicas.ask(release) for _ in range(8))) == [whole] * 8
        (other,) = (engine for engine in replicas.holders(release) if engine is not home)
        assert other.loads == [release]
        assert await replicas.driver.status()
        home.restart()
        replicas.driver._away.clear()
        assert await asyncio.gather(*(replicas.ask(release) for _ in range(8))) == [whole] * 8
        assert home.loads == [release, release], "one that was started anew loads again"

    asyncio.run(story())


def test_an_answer_that_has_begun_is_not_begun_again(replicas: Replicas) -> None:
    release = replicas.releases[0]

    async def story() -> None:
        await replicas.load(release)
        for engine in replicas.engines:
            engine.breaks_off = True
        with pytest.raises(Unavailable):
            await replicas.ask(release)
        assert sum(len(engine.asked) for engine in replicas.engines) == 1

    asyncio.run(story())
