"""Replica placement: which replicas of an engine hold which releases, and what is loaded, copied, moved and taken out."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from random import Random

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import NotFound, TailorbirdError, Unavailable
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.engine_replica import EngineReplica

_log = logging.getLogger("tailorbird.serving")

#: Requests under way at the least busy holder of a release from which another copy is loaded, where a replica has half as many.
_HOT = 4
#: Seconds after which a copy that nobody asked is taken out again, where another replica holds the release; and within which a release
#: must have been asked to be loaded elsewhere at once when the replica that holds it goes away.
_COLD_AFTER = 600.0
#: Releases of one replica that are loaded elsewhere at a time.
_MOVED_AT_ONCE = 4
#: Seconds for which a name is not moved because the copies that it needs are loaded.
_PREPARED_WITHIN = 60.0


class ReplicaPlacement:
    """Where releases are. ``changed`` is called when one has been loaded, or could not be.

    A release is loaded by the emptier of two replicas that are drawn. What is asked more than its holders bear is copied to the least busy;
    a copy goes ten minutes after it was asked. What a replica alone holds is loaded by others when it is drained, and, where it was asked
    lately, when it goes away; what was asked last comes first.
    """

    def __init__(self, replicas: Sequence[EngineReplica], draw: Random, changed: Callable[[], None]) -> None:
        self.requests: dict[Digest, LoadRequest] = {}
        self._replicas, self._draw, self._changed = replicas, draw, changed
        self._bringing: dict[Digest, asyncio.Task[EngineReplica]] = {}
        self._moving: dict[EngineReplica, asyncio.Task[None]] = {}
        self._preparing: dict[Digest, float] = {}
        for replica in replicas:
            replica.changed = self._is_gone

    @property
    def live(self) -> list[EngineReplica]:
        """Replicas that answer."""
        return [replica for replica in self._replicas if not replica.away]

    def holders(self, release: Digest) -> list[EngineReplica]:
        """Replicas that a request for the release may be put to: of a drained one only where no other holds it."""
        able = [replica for replica in self._replicas if replica.answers_for(release)]
        return [replica for replica in able if replica.drain is None] or able

    def alone(self, replica: EngineReplica) -> list[Digest]:
        """Releases that only this replica holds of those that may be asked, what was asked last first."""
        held = [release for release in replica.held if release in self.requests and not self._elsewhere(release)]
        return sorted(held, key=replica.held.__getitem__, reverse=True)

    async def load(self, request: LoadRequest) -> None:
        """As ``EngineDriver.load``, on one replica, or on those that hold it already: pinned or not, as asked now. Raises Unavailable when
        none answers."""
        release = request.release
        self.requests[release] = request
        try:
            holders = self.holders(release)
            for replica in holders:
                await replica.take(request)
            if not holders:
                await self.bring(release)
        except BaseException:
            if not any(release in replica.held for replica in self._replicas):
                self.requests.pop(release, None)
            raise

    async def unload(self, release: Digest) -> None:
        """As ``EngineDriver.unload``, on every replica that holds it."""
        self.requests.pop(release, None)
        for replica in self._replicas:
            replica.refused.pop(release, None)
            if release in replica.held and replica.away:
                replica.drop(release)
            elif release in replica.held:
                await replica.take_out(release)

    async def look(self) -> None:
        """Asks all replicas what they hold; takes out copies that were not asked for long, and moves on what is to be moved. Raises
        Unavailable when none answers."""
        found = await asyncio.gather(*map(self._ask, self._replicas))
        if all(error is not None for error in found):
            raise next(error for error in found if error is not None)
        await self._cool()
        for replica in self._replicas:
            if replica.drain is not None and not replica.away:
                self.move(replica)

    async def bring(self, release: Digest) -> EngineReplica:
        """Loads a release on one replica, or on the next where one refuses it; who asks meanwhile waits for the same load. Raises what the
        last one refuses with, and Unavailable where none answers."""
        tried: list[EngineReplica] = []
        failed: TailorbirdError | None = None
        while True:
            task = self._bringing.get(release)
            if task is None:
                replica = self._emptier(release, tried)
                if replica is None:
                    raise failed or self.none_answers()
                tried.append(replica)
                task = self._begin(release, replica)
            try:
                return await asyncio.shield(task)
            except TailorbirdError as error:
                failed = error

    def copy_if_hot(self, release: Digest, holders: Sequence[EngineReplica], *, full: bool) -> None:
        """Begins a copy where the least busy of ``holders`` has much to do and another replica half as much, or all are ``full`` and it has
        a quarter less."""
        least = min(replica.under_way for replica in holders)
        bears = 3 * least // 4 if full else least // 2 if least >= _HOT else -1
        others = [replica for replica in self._willing(release) if replica.under_way <= bears]
        if others and release in self.requests and release not in self._bringing:
            _log.info("release %s is asked more than its replicas bear: one more loads it", short(release))
            self._copy(release, others)

    def prepare(self, before: Collection[Digest], shares: Mapping[Digest, float]) -> bool:
        """True once each release of ``shares`` is held by as many replicas as its share of a name takes that is answered by ``before``
        now: of three replicas that hold one of those, half the traffic takes two. Until then copies are loaded; what all others refuse, or
        takes longer than a minute, is not waited for."""
        width = max((len(self.holders(release)) for release in before), default=1)
        missing = [release for release, share in shares.items() if self._lacks(release, math.ceil(share * width - 1e-9))]
        now = time.monotonic()
        for release in missing:
            if release not in self._bringing:
                self._copy(release, self._willing(release))
        since = [self._preparing.setdefault(release, now) for release in missing]
        if any(now - begun < _PREPARED_WITHIN for begun in since):
            return False
        for release in shares:
            self._preparing.pop(release, None)
        return True

    def move(self, replica: EngineReplica, asked_within: float = math.inf) -> None:
        """Begins to have loaded by others what this replica alone holds and was asked within so many seconds; does nothing while it does
        so already."""
        running = self._moving.get(replica)
        if running is None or running.done():
            self._moving[replica] = asyncio.create_task(self._move(replica, time.monotonic() - asked_within))

    def none_answers(self) -> Unavailable:
        """The error where no replica may be asked."""
        if self.live:
            hint = "an admin of the host puts one back: tailorbird replica undrain ADDRESS"
            return Unavailable("every replica of the engine that answers is drained", hint, code="engine_drained")
        return Unavailable("no replica of the engine answers", "see that the servers of engine_url run", code="engine_unavailable")

    async def close(self) -> None:
        """Ends loads under way."""
        tasks = (*self._moving.values(), *self._bringing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_gone(self, replica: EngineReplica) -> None:
        self.move(replica, _COLD_AFTER)
        self._changed()

    def _elsewhere(self, release: Digest) -> bool:
        return any(release in replica.held and replica.may_load for replica in self._replicas)

    def _willing(self, release: Digest) -> list[EngineReplica]:
        """Replicas that may load one more copy."""
        return [
            replica for replica in self._replicas if replica.may_load and release not in replica.held and not replica.has_refused(release)
        ]

    def _lacks(self, release: Digest, wanted: int) -> bool:
        held = sum(release in replica.held and replica.may_load for replica in self._replicas)
        return release in self.requests and held < wanted and bool(self._willing(release))

    def _copy(self, release: Digest, others: Sequence[EngineReplica]) -> None:
        self._begin(release, min(others, key=lambda replica: replica.under_way)).add_done_callback(_told_of)

    async def _move(self, replica: EngineReplica, since: float) -> None:
        """A drained replica answers on for a release until another holds it: no request waits for a load."""
        left = [release for release in self.alone(replica) if replica.held[release] >= since and self._willing(release)]
        if left:
            _log.info("%d releases of the replica %s of the engine are loaded by others", len(left), replica.address)
        places = asyncio.Semaphore(_MOVED_AT_ONCE)

        async def one(release: Digest) -> None:
            async with places:
                if release in self.requests and not self._elsewhere(release):
                    await self.bring(release)

        for error in await asyncio.gather(*map(one, left), return_exceptions=True):
            if isinstance(error, TailorbirdError):
                _log.warning("a release was not loaded by another replica: %s", error.error_code)

    def _emptier(self, release: Digest, tried: Sequence[EngineReplica]) -> EngineReplica | None:
        """The one with fewer releases of two that may load and were not tried; one that refused this one lately comes last."""
        left = [replica for replica in self._replicas if replica.may_load and replica not in tried]
        willing = [replica for replica in left if not replica.has_refused(release)] or left
        drawn = self._draw.sample(willing, min(2, len(willing)))
        return min(drawn, key=lambda replica: (len(replica.held), replica.under_way), default=None)

    def _begin(self, release: Digest, replica: EngineReplica) -> asyncio.Task[EngineReplica]:
        request = self.requests.get(release)
        if request is None:
            raise not_loaded(release)

        async def load() -> EngineReplica:
            try:
                await replica.take(request)
            finally:
                del self._bringing[release]
                self._changed()
            if release not in self.requests:
                await self.unload(release)
                raise not_loaded(release)
            return replica

        task = self._bringing[release] = asyncio.create_task(load())
        return task

    async def _ask(self, replica: EngineReplica) -> TailorbirdError | None:
        """Asks a replica what it holds; the error with which it does not answer."""
        changes = replica.changes
        try:
            held = await replica.driver.loaded()
        except TailorbirdError as error:
            replica.leave(error.error_code)
            return error
        if changes == replica.changes:
            replica.told([release for release in held if release in self.requests])
            for release in [release for release in held if release not in self.requests]:
                # It was unloaded while the replica was away.
                await replica.take_out(release)
        return None

    async def _cool(self) -> None:
        """Takes out copies that were not asked for long; the one that was asked last stays."""
        old = time.monotonic() - _COLD_AFTER
        held = Counter(chain.from_iterable(replica.held for replica in self._replicas if replica.may_load))
        for release in [release for release, copies in held.items() if copies > 1]:
            holders = sorted((one for one in self._replicas if one.may_load and release in one.held), key=lambda one: one.held[release])
            for replica in holders[:-1]:
                if replica.held.get(release, old) < old and not replica.asked[release]:
                    await replica.take_out(release)


def not_loaded(release: Digest) -> NotFound:
    """The error for a release that was never loaded here."""
    return NotFound(f"release {short(release)} is not loaded", "load it first", code="not_loaded")


def _told_of(task: asyncio.Task[EngineReplica]) -> None:
    """A copy that was not loaded is no fault of any request: those that hold the release go on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a copy of a release was not loaded: %s", getattr(error, "error_code", type(error).__name__))
