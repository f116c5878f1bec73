"""Replicas of an engine in this process: engines' twins whose answers can be held up, and the driver over several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random

from support.drivers import answer
from support.serving import DirectDriver, House
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, EngineDriver, LoadRequest
from tailorbird.serving import REQUESTS_EACH, EngineReplicas

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


def over(drivers: Sequence[EngineDriver], seed: int = 1, most: int = REQUESTS_EACH) -> EngineReplicas:
    """The driver over some, whose addresses are their numbers."""
    return EngineReplicas({str(number): driver for number, driver in enumerate(drivers, 1)}, Random(seed), most)


class ReplicaSet:
    """Some replicas, and releases that they may load."""

    def __init__(self, folder: Path, count: int = 3, most: int = REQUESTS_EACH) -> None:
        self.house = House(folder)
        self.engines = [Replica(self.house) for _ in range(count)]
        self.driver = over(self.engines, 7, most)
        self.releases = [self.house.release(n, task=TaskKind.GENERATE) for n in range(1, 7)]

    def request(self, release: Digest, *, pinned: bool = False) -> LoadRequest:
        return LoadRequest(tenant="acme", release=release, purpose="production", pinned=pinned)

    def holders(self, release: Digest) -> list[int]:
        return [place for place, engine in enumerate(self.engines) if release in engine.engine.loaded()]

    async def asked(self, release: Digest) -> str:
        return (await answer(self.driver, release, "where is my parcel"))[0]
