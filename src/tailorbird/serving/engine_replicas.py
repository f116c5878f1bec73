"""Engine replicas: several engines behind one gateway, as one ``EngineDriver``."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import NotFound, Unavailable
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Embeddings, EngineDriver, EngineState, LabelScores, LoadRequest, ProbeRequest, Ranked, Residency

_log = logging.getLogger("tailorbird.serving")

_Answer = TypeVar("_Answer")
#: Seconds for which a replica that did not answer is asked after the others.
_AWAY_SECONDS = 5.0


class EngineReplicas:
    """Implements ``EngineDriver`` over replicas by their addresses, of which any may go away and come back.

    A release is loaded by, and asked of, the first replica in its own order of all (rendezvous hashing, Thaler and Ravishankar 1998,
    IEEE/ACM TON 6(1)): gateways that know the same addresses choose alike, without a word of each other. Where that one does not answer,
    the next is asked once, and loads the release first where it lacks it.
    """

    def __init__(self, drivers: Mapping[str, EngineDriver]) -> None:
        self._drivers = dict(drivers)
        self._requests = dict[Digest, LoadRequest]()
        self._loading = dict[Digest, asyncio.Lock]()
        self._away = dict[str, float]()

    async def load(self, request: LoadRequest) -> None:
        """As ``EngineDriver.load``, by the first replica that answers, of two."""
        await self._first(request.release, lambda driver: driver.load(request))
        self._requests[request.release] = request

    async def unload(self, release: Digest) -> None:
        """As ``EngineDriver.unload``, on every replica; one that is away holds it until it is started anew."""
        self._requests.pop(release, None)
        self._loading.pop(release, None)
        await asyncio.gather(*(driver.unload(release) for driver in self._drivers.values()), return_exceptions=True)

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that some replica holds. Raises Unavailable when no replica answers."""
        found = await self._told(lambda driver: driver.loaded())
        return tuple(dict.fromkeys(release for held in found for release in held))

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """As ``EngineDriver.score``."""
        return await self._asked(release, lambda driver: driver.score(release, prompt, labels, groups))

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """As ``EngineDriver.stream``. An answer that has begun is not begun again elsewhere."""

        async def begin(driver: EngineDriver) -> tuple[Chunk | None, AsyncGenerator[Chunk, None]]:
            chunks = driver.stream(release, prompt, sampling, groups)
            try:
                return await anext(chunks, None), chunks
            except BaseException:
                await chunks.aclose()
                raise

        first, chunks = await self._asked(release, begin)
        async with aclosing(chunks):
            if first is not None:
                yield first
            async for chunk in chunks:
                yield chunk

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """As ``EngineDriver.retrieve``."""
        return await self._asked(release, lambda driver: driver.retrieve(release, text, groups, count))

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As ``EngineDriver.rank``."""
        return await self._asked(release, lambda driver: driver.rank(release, text, documents, count))

    async def embed(self, release: Digest, texts: Sequence[str]) -> Embeddings:
        """As ``EngineDriver.embed``."""
        return await self._asked(release, lambda driver: driver.embed(release, texts))

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """As ``EngineDriver.probe``."""
        return await self._asked(request.release, lambda driver: driver.probe(request))

    async def state(self) -> EngineState:
        """What all replicas that answer are doing, added up; a release is resident where it is on one of them."""
        states = await self._told(lambda driver: driver.state())
        sums = {name: sum(getattr(state, name) for state in states) for name in EngineState.model_fields if name != "releases"}
        releases: dict[Digest, Residency] = {}
        for one in (one for state in states for one in state.releases):
            releases[one.release] = _together(releases[one.release], one) if one.release in releases else one
        return EngineState(**sums, releases=tuple(releases.values()))

    async def ready(self) -> bool:
        """True when one replica answers."""
        return any(await asyncio.gather(*(driver.ready() for driver in self._drivers.values())))

    async def close(self) -> None:
        """Closes the connections of all."""
        await asyncio.gather(*(driver.close() for driver in self._drivers.values()), return_exceptions=True)

    async def _told(self, ask: Callable[[EngineDriver], Awaitable[_Answer]]) -> list[_Answer]:
        """What those say that answer. Raises the error of one where none does."""
        found = await asyncio.gather(*(ask(driver) for driver in self._drivers.values()), return_exceptions=True)
        told = [one for one in found if not isinstance(one, BaseException)]
        if not told:
            raise next(one for one in found if isinstance(one, BaseException))
        return told

    async def _asked(self, release: Digest, ask: Callable[[EngineDriver], Awaitable[_Answer]]) -> _Answer:
        """The answer of the first replica of a release; it loads the release where it was started anew without it."""

        async def ask_loaded(driver: EngineDriver) -> _Answer:
            try:
                return await ask(driver)
            except NotFound:
                if release not in self._requests:
                    raise
            async with self._loading.setdefault(release, asyncio.Lock()):
                request = self._requests.get(release)
                if request is not None and release not in await driver.loaded():
                    await driver.load(request)
            return await ask(driver)

        return await self._first(release, ask_loaded)

    async def _first(self, release: Digest, ask: Callable[[EngineDriver], Awaitable[_Answer]]) -> _Answer:
        """What the first replica answers, or the next where the first is away. One that lives and refuses a request has failed that request
        alone: another would do so, too."""
        first, *others = self._order(release)
        try:
            return await ask(self._drivers[first])
        except Unavailable:
            if not others or await self._drivers[first].ready():
                raise
        if first not in self._away:
            _log.warning("the replica %s of the engine does not answer; the next is asked", first)
        self._away[first] = time.monotonic() + _AWAY_SECONDS
        return await ask(self._drivers[others[0]])

    def _order(self, release: Digest) -> list[str]:
        """All addresses, in the order in which they are asked for a release: those that did not answer a moment ago last."""
        now = time.monotonic()
        self._away = {address: until for address, until in self._away.items() if until > now}
        ranked = sorted(self._drivers, key=lambda address: hashlib.sha256(f"{release} {address}".encode()).digest())
        return sorted(ranked, key=self._away.__contains__)


def _together(one: Residency, other: Residency) -> Residency:
    counts = {name: getattr(one, name) + getattr(other, name) for name in ("loads", "evictions", "requests", "load_seconds")}
    return one.model_copy(update=counts | {"resident": one.resident or other.resident, "pinned": one.pinned or other.pinned})
