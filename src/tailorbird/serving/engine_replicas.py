"""Engine replicas: several engines behind one gateway, as one ``EngineDriver``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import TypeVar

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.retrieval import RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Embeddings, EngineDriver, EngineState, LabelScores, LoadRequest, ProbeRequest, Ranked, Residency

_log = logging.getLogger("tailorbird.serving")

_Answer = TypeVar("_Answer")

#: Requests under way at the least busy holder of a release from which another copy is loaded, where a replica has half as many.
_HOT = 4
#: Seconds after which a copy that nobody asked is taken out again, where another replica holds the release.
_COLD_AFTER = 600.0
#: Seconds for which no copy is tried where a replica has refused the release; what nobody holds is tried there last.
_REFUSED_FOR = 60.0


@dataclass(eq=False)
class _Replica:
    """One engine: the releases that it holds, each with the moment at which it was asked last, those that it refused, with the moment, and
    requests under way. ``changes`` counts loads and unloads: a list that was told before one is overtaken."""

    driver: EngineDriver
    number: int
    held: dict[Digest, float] = field(default_factory=dict)
    refused: dict[Digest, float] = field(default_factory=dict)
    asked: Counter[Digest] = field(default_factory=Counter)
    busy: int = 0
    away: bool = False
    changes: int = 0

    def hold(self, release: Digest) -> None:
        self.refused.pop(release, None)
        self.held[release] = time.monotonic()
        self.changes += 1

    def drop(self, release: Digest) -> None:
        self.held.pop(release, None)
        self.changes += 1

    def has_refused(self, release: Digest) -> bool:
        return time.monotonic() - self.refused.get(release, float("-inf")) < _REFUSED_FOR

    async def answers(self) -> bool:
        """Asks; what the record or a store of keys is to blame for is no fault of the engine."""
        if not await self.driver.ready():
            self.leave("not ready")
        return not self.away

    def leave(self, why: str) -> None:
        """It does not answer."""
        if not self.away:
            _log.warning("replica %d of the engine does not answer (%s); others are asked", self.number, why)
        self.away = True

    async def take_out(self, release: Digest) -> None:
        """Unloads; what cannot be is tried again when the replica is looked at, where nobody wants it there."""
        self.drop(release)
        try:
            await self.driver.unload(release)
        except TailorbirdError as error:
            _log.warning("release %s was not unloaded by a replica: %s", short(release), error.error_code)

    def told(self, held: Sequence[Digest]) -> None:
        now = time.monotonic()
        if self.away:
            _log.warning("replica %d of the engine answers again, with %d releases", self.number, len(held))
        self.away, self.held = False, {release: self.held.get(release, now) for release in held}


class EngineReplicas:
    """Implements ``EngineDriver`` over ``drivers``, of which any may go away and come back.

    A release is loaded by the emptier of two replicas that are drawn. A request goes to the less busy of two that hold its release (power
    of two choices, Mitzenmacher 2001, IEEE TPDS 12(10)); where none that answers does, it is loaded first. What is asked more than one
    bears is copied to the least busy; a copy goes ten minutes after it was asked. What no replica began to answer is asked of another.
    """

    def __init__(self, drivers: Sequence[EngineDriver], draw: Random | None = None) -> None:
        self._replicas = tuple(_Replica(driver, number) for number, driver in enumerate(drivers, 1))
        self._draw = draw or Random()
        self._requests: dict[Digest, LoadRequest] = {}
        self._bringing: dict[Digest, asyncio.Task[_Replica]] = {}

    async def load(self, request: LoadRequest) -> None:
        """As ``EngineDriver.load``, on one replica, or on those that hold it already: pinned or not, as asked now. Raises Unavailable when
        none answers."""
        self._requests[request.release] = request
        try:
            holders = self._holders(request.release)
            for replica in holders:
                await self._load(replica, request)
            if not holders:
                await self._bring(request.release)
        except BaseException:
            if not any(request.release in replica.held for replica in self._replicas):
                self._requests.pop(request.release, None)
            raise

    async def unload(self, release: Digest) -> None:
        """As ``EngineDriver.unload``, on every replica that holds it."""
        self._requests.pop(release, None)
        for replica in self._replicas:
            replica.refused.pop(release, None)
            if release in replica.held and replica.away:
                replica.drop(release)
            elif release in replica.held:
                await replica.take_out(release)

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that some replica holds and that were asked for here. Raises Unavailable when no replica answers."""
        found = await asyncio.gather(*map(self._look, self._replicas))
        if all(error is not None for error in found):
            raise next(error for error in found if error is not None)
        await self._cool()
        return tuple(dict.fromkeys(release for replica in self._live() for release in replica.held))

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """As ``EngineDriver.score``."""
        return await self._asked(release, lambda driver: driver.score(release, prompt, labels, groups))

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """As ``EngineDriver.stream``. An answer that has begun is not begun again elsewhere."""
        for last in self._attempts():
            replica, begun = await self._chosen(release), False
            try:
                with self._at(replica, release):
                    async with aclosing(replica.driver.stream(release, prompt, sampling, groups)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
                        return
            except (Unavailable, NotFound) as error:
                if begun or last or not await self._left(replica, release, error):
                    raise

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
        """As ``EngineDriver.probe``, of one replica that holds the release."""
        return await self._asked(request.release, lambda driver: driver.probe(request))

    async def state(self) -> EngineState:
        """What all replicas that answer are doing, added up; a release is resident where it is on one of them."""
        found = await asyncio.gather(*(replica.driver.state() for replica in self._live()), return_exceptions=True)
        states = [state for state in found if isinstance(state, EngineState)]
        if not states:
            raise next((error for error in found if isinstance(error, TailorbirdError)), _none_answers())
        sums = {name: sum(getattr(state, name) for state in states) for name in EngineState.model_fields if name != "releases"}
        releases: dict[Digest, Residency] = {}
        for one in (one for state in states for one in state.releases):
            releases[one.release] = _together(releases[one.release], one) if one.release in releases else one
        return EngineState(**sums, releases=tuple(releases.values()))

    async def ready(self) -> bool:
        """True when one replica answers."""
        return any(await asyncio.gather(*(replica.driver.ready() for replica in self._replicas)))

    async def close(self) -> None:
        """Ends loads under way, and closes the connections of all."""
        for task in self._bringing.values():
            task.cancel()
        await asyncio.gather(*self._bringing.values(), return_exceptions=True)
        await asyncio.gather(*(replica.driver.close() for replica in self._replicas), return_exceptions=True)

    def _live(self) -> list[_Replica]:
        return [replica for replica in self._replicas if not replica.away]

    def _holders(self, release: Digest) -> list[_Replica]:
        return [replica for replica in self._live() if release in replica.held]

    def _attempts(self) -> Iterator[bool]:
        """One attempt for each replica and one more, for what was loaded anew; True with the last."""
        yield from (place == len(self._replicas) for place in range(len(self._replicas) + 1))

    async def _asked(self, release: Digest, ask: Callable[[EngineDriver], Awaitable[_Answer]]) -> _Answer:
        for last in self._attempts():
            replica = await self._chosen(release)
            try:
                with self._at(replica, release):
                    return await ask(replica.driver)
            except (Unavailable, NotFound) as error:
                if last or not await self._left(replica, release, error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _at(self, replica: _Replica, release: Digest) -> Iterator[None]:
        replica.busy += 1
        replica.asked[release] += 1
        try:
            yield
        finally:
            replica.busy -= 1
            replica.asked[release] -= 1
            if not replica.asked[release]:
                del replica.asked[release]
            if release in replica.held:
                replica.held[release] = time.monotonic()

    async def _chosen(self, release: Digest) -> _Replica:
        """The less busy of two that hold the release; where none does, one that has loaded it by now. Raises NotFound (it was never
        loaded), and as ``load``."""
        holders = self._holders(release)
        if not holders:
            return await self._bring(release)
        chosen = min(self._draw.sample(holders, min(2, len(holders))), key=lambda replica: replica.busy)
        self._copy_if_hot(release, holders)
        return chosen

    async def _left(self, replica: _Replica, release: Digest, error: TailorbirdError) -> bool:
        """Notes that a replica is away, or was started anew without the release; whether another may be asked. One that answers and refuses
        a request has failed that request alone: another would do so, too."""
        if isinstance(error, Unavailable):
            return not await replica.answers() and release in self._requests
        replica.drop(release)
        return release in self._requests

    def _copy_if_hot(self, release: Digest, holders: Sequence[_Replica]) -> None:
        least = min(replica.busy for replica in holders)
        others = [
            replica
            for replica in self._live()
            if release not in replica.held and 2 * replica.busy <= least and not replica.has_refused(release)
        ]
        if least >= _HOT and others and release in self._requests and release not in self._bringing:
            _log.info("release %s is asked more than its replicas bear: one more loads it", short(release))
            self._begin(release, min(others, key=lambda replica: replica.busy)).add_done_callback(_told_of)

    async def _bring(self, release: Digest) -> _Replica:
        """Loads a release on one replica, or on the next where one refuses it; who asks meanwhile waits for the same load. Raises what the
        last one refuses with, and Unavailable where none answers."""
        tried: list[_Replica] = []
        failed: TailorbirdError = _none_answers()
        while True:
            task = self._bringing.get(release)
            if task is None:
                replica = self._emptier(release, tried)
                if replica is None:
                    raise failed
                tried.append(replica)
                task = self._begin(release, replica)
            try:
                return await asyncio.shield(task)
            except TailorbirdError as error:
                failed = error

    def _emptier(self, release: Digest, tried: Sequence[_Replica]) -> _Replica | None:
        """The one with fewer releases of two that answer and were not tried; one that refused this one lately comes last."""
        left = [replica for replica in self._live() if replica not in tried]
        willing = [replica for replica in left if not replica.has_refused(release)] or left
        return min(self._draw.sample(willing, min(2, len(willing))), key=lambda replica: (len(replica.held), replica.busy), default=None)

    def _begin(self, release: Digest, replica: _Replica) -> asyncio.Task[_Replica]:
        request = self._requests.get(release)
        if request is None:
            raise _not_loaded(release)

        async def load() -> _Replica:
            try:
                await self._load(replica, request)
            finally:
                del self._bringing[release]
            if release not in self._requests:
                await self.unload(release)
                raise _not_loaded(release)
            return replica

        task = self._bringing[release] = asyncio.create_task(load())
        return task

    async def _load(self, replica: _Replica, request: LoadRequest) -> None:
        try:
            await replica.driver.load(request)
        except TailorbirdError as error:
            if not isinstance(error, Unavailable) or await replica.answers():
                replica.refused[request.release] = time.monotonic()
            raise
        replica.hold(request.release)

    async def _look(self, replica: _Replica) -> TailorbirdError | None:
        """Asks a replica what it holds; the error with which it does not answer."""
        changes = replica.changes
        try:
            held = await replica.driver.loaded()
        except TailorbirdError as error:
            replica.leave(error.error_code)
            return error
        if changes == replica.changes:
            replica.told([release for release in held if release in self._requests])
            for release in [release for release in held if release not in self._requests]:
                # It was unloaded while the replica was away.
                await replica.take_out(release)
        return None

    async def _cool(self) -> None:
        """Takes out copies that were not asked for long; the one that was asked last stays."""
        old = time.monotonic() - _COLD_AFTER
        held = Counter(chain.from_iterable(replica.held for replica in self._live()))
        for release in [release for release, count in held.items() if count > 1]:
            holders = sorted(self._holders(release), key=lambda replica: replica.held[release])
            for replica in holders[:-1]:
                if replica.held.get(release, old) < old and not replica.asked[release]:
                    await replica.take_out(release)


def _together(one: Residency, other: Residency) -> Residency:
    counts = {name: getattr(one, name) + getattr(other, name) for name in ("loads", "evictions", "requests", "load_seconds")}
    return one.model_copy(update=counts | {"resident": one.resident or other.resident, "pinned": one.pinned or other.pinned})


def _none_answers() -> Unavailable:
    return Unavailable("no replica of the engine answers", "see that the servers of engine_url run", code="engine_unavailable")


def _not_loaded(release: Digest) -> NotFound:
    return NotFound(f"release {short(release)} is not loaded", "load it first", code="not_loaded")


def _told_of(task: asyncio.Task[_Replica]) -> None:
    """A copy that was not loaded is no fault of any request: those that hold the release go on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a copy of a release was not loaded: %s", getattr(error, "error_code", type(error).__name__))
