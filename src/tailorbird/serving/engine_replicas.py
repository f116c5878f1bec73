"""Engine replicas: several engines behind one gateway, as one ``EngineDriver``."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import cast

from tailorbird.domain.errors import NotFound, TailorbirdError, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import A, EngineDriver, EngineState, LoadRequest, Question, Residency

_log = logging.getLogger("tailorbird.serving")

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

    async def ask(self, request: Question[A]) -> A:
        """As ``EngineDriver.ask``, of the first replica of the release, which loads it where it was started anew without it. An answer that
        has begun is not begun again elsewhere."""
        release = request.release

        async def begin(driver: EngineDriver) -> A:
            answer = await driver.ask(request)
            return cast(A, await _begun(answer)) if isinstance(answer, AsyncGenerator) else answer

        async def ask_loaded(driver: EngineDriver) -> A:
            try:
                return await begin(driver)
            except NotFound:
                if release not in self._requests:
                    raise
            async with self._loading.setdefault(release, asyncio.Lock()):
                wanted = self._requests.get(release)
                if wanted is not None and release not in (await driver.status()).loaded:
                    await driver.load(wanted)
            return await begin(driver)

        return await self._first(release, ask_loaded)

    async def status(self) -> EngineState:
        """What all replicas that answer are doing, added up; a release is loaded, and resident, where it is so on one of them. Raises
        Unavailable when no replica answers."""
        found = await asyncio.gather(*(driver.status() for driver in self._drivers.values()), return_exceptions=True)
        states = [one for one in found if isinstance(one, EngineState)]
        if not states:
            raise next(one for one in found if isinstance(one, BaseException))
        counted = EngineState.model_fields.keys() - {"releases", "loaded", "adapters"}
        sums = {name: sum(getattr(state, name) for state in states) for name in counted}
        releases: dict[Digest, Residency] = {}
        for one in (one for state in states for one in state.releases):
            releases[one.release] = _together(releases[one.release], one) if one.release in releases else one
        loaded = dict.fromkeys(release for state in states for release in state.loaded)
        return EngineState(**sums, releases=tuple(releases.values()), loaded=tuple(loaded))

    async def close(self) -> None:
        """Closes the connections of all."""
        await asyncio.gather(*(driver.close() for driver in self._drivers.values()), return_exceptions=True)

    async def _first(self, release: Digest, ask: Callable[[EngineDriver], Awaitable[A]]) -> A:
        """What the first replica answers, or the next where the first is away. One that lives and refuses a request has failed that request
        alone: another would do so, too."""
        first, *others = self._order(release)
        try:
            return await ask(self._drivers[first])
        except Unavailable:
            if not others:
                raise
            try:
                await self._drivers[first].status()
            except TailorbirdError:
                pass
            else:
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


async def _begun(pieces: AsyncGenerator[A, None]) -> AsyncGenerator[A, None]:
    """``pieces``, once the first is there. Raises what making it raises."""
    try:
        first = await anext(pieces, None)
    except BaseException:
        await pieces.aclose()
        raise

    async def whole() -> AsyncGenerator[A, None]:
        async with aclosing(pieces):
            if first is not None:
                yield first
            async for piece in pieces:
                yield piece

    return whole()


def _together(one: Residency, other: Residency) -> Residency:
    counts = {name: getattr(one, name) + getattr(other, name) for name in ("loads", "evictions", "requests", "load_seconds")}
    return one.model_copy(update=counts | {"resident": one.resident or other.resident, "pinned": one.pinned or other.pinned})
