"""Replica watch: follows which replicas are drained, tells how they stand before this gateway, and hears what others put to them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from tailorbird.crypto.anchored_rows import anchored_row
from tailorbird.domain.engine_replica import ReplicaDrain, ReplicaStanding
from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.clock import Clock
from tailorbird.ports.ledger import Ledger
from tailorbird.serving.engine_replicas import EngineReplicas
from tailorbird.serving.heartbeat import BEAT_EVERY, GONE_AFTER
from tailorbird.system.background_loop import BackgroundLoop

_log = logging.getLogger("tailorbird.serving")

#: Seconds between two looks: at the pulse of the record, and into it where it has none; and after which it is read whatever the pulse says.
_LOOK_EVERY, _READ_EVERY, _READ_AFTER = 0.1, 0.25, 2.0
#: Seconds between two tellings where only counts have changed and somebody is interested: another gateway, or who drains.
_TELL_EVERY = 0.5


@dataclass(frozen=True)
class _RecordedReplicas:
    """What the record says: drained replicas (None: it is not as the log anchors it), and how replicas stand before other gateways."""

    drains: tuple[ReplicaDrain, ...] | None
    others: dict[str, tuple[ReplicaStanding, ...]]


class ReplicaWatch:
    """Watches between ``start`` and ``stop`` for the gateway ``gateway``. Drains are those of the tenant ``host``."""

    def __init__(self, ledger: Ledger, clock: Clock, replicas: EngineReplicas, gateway: str, host: str) -> None:
        self._ledger, self._clock, self._replicas = ledger, clock, replicas
        self._gateway, self._host = gateway, host
        self._drains: tuple[ReplicaDrain, ...] = ()
        self._others = 0
        self._pulse: object | None = None
        self._read_at = self._told_at = self._seen_at = float("-inf")
        self._told: tuple[ReplicaStanding, ...] = ()
        self.loop = BackgroundLoop("drains of replicas", self.follow, _LOOK_EVERY)

    async def start(self) -> None:
        """Reads the record once, so that a gateway that was started again loads nothing on a drained replica, and goes on."""
        await self.loop.round()
        self.loop.start(_LOOK_EVERY)

    async def stop(self) -> None:
        """Ends the watch, and takes back what was told."""
        await self.loop.stop()
        with suppress(TailorbirdError):
            await asyncio.to_thread(self._leave)

    async def follow(self) -> None:
        """Reads what is due, goes by it, and tells what is due. Raises Unavailable, Corrupt; then all stays as it was."""
        changed = self._is_due() and await self._read()
        if not changed and time.monotonic() - self._seen_at < _TELL_EVERY:
            return  # what a replica alone holds is found among all releases
        self._seen_at = time.monotonic()
        if self._is_news(seen := self._replicas.standing()):
            await asyncio.to_thread(self._tell, seen)
            self._told, self._told_at = seen, time.monotonic()

    def _is_due(self) -> bool:
        """True where something was written, or may have been, and the last reading is a moment ago."""
        pulse, ago = self._ledger.pulse(), time.monotonic() - self._read_at
        due = ago >= _READ_AFTER or (ago >= _READ_EVERY and not (pulse and pulse == self._pulse))
        if due:
            self._pulse, self._read_at = pulse, time.monotonic()
        return due

    async def _read(self) -> bool:
        """True where other replicas are drained than before."""
        found = await asyncio.to_thread(self._reading)
        changed = found.drains is not None and found.drains != self._drains
        if found.drains is not None and changed:
            self._drains = found.drains
            self._replicas.drain(found.drains)
        self._others = len(found.others)
        under_way = Counter[str]()
        for one in (one for seen in found.others.values() for one in seen):
            under_way[one.address] += one.under_way
        self._replicas.hear(self._others + 1, under_way)
        return changed

    def _reading(self) -> _RecordedReplicas:
        since = self._clock.now() - timedelta(seconds=GONE_AFTER)
        with self._ledger.system(write=False) as system:
            others = {gateway: seen for gateway, seen in system.gateways.replicas(since).items() if gateway != self._gateway}
            host = system.tenants.get(self._host) if self._host else None
            drained = host.drained if host else ()
            row = anchored_row(host) if host is not None and drained != self._drains else None
            if row is not None and system.anchors.differing(row.tenant, {row.name: row.digest}):
                _log.error("the drained replicas are not what the log says and are not followed: run tailorbird audit verify")
                return _RecordedReplicas(None, others)
        return _RecordedReplicas(drained, others)

    def _is_news(self, seen: Sequence[ReplicaStanding]) -> bool:
        """True where what was told is old, or tells another story; counts alone are news where somebody may be interested."""
        ago = time.monotonic() - self._told_at
        if ago >= BEAT_EVERY or [_story(one) for one in seen] != [_story(one) for one in self._told]:
            return True
        watched = self._others or any(one.drained for one in seen)
        return bool(watched) and ago >= _TELL_EVERY and seen != self._told

    def _tell(self, seen: Sequence[ReplicaStanding]) -> None:
        with self._ledger.system() as system:
            system.gateways.tell_replicas(self._gateway, seen, self._clock.now())

    def _leave(self) -> None:
        with self._ledger.system() as system:
            system.gateways.leave(self._gateway)


def _story(one: ReplicaStanding) -> tuple[str, bool, bool, bool]:
    return one.address, one.answers, one.drained, one.is_empty
