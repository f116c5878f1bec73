"""Replica admission: which request is put to which replica, and which tenant's comes next where all are full."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

from tailorbird.domain.errors import Exhausted
from tailorbird.domain.value import Digest
from tailorbird.serving.engine_replica import EngineReplica

#: Requests that may wait, in all and of one tenant.
_WAITING, _WAITING_EACH = 1024, 256


@dataclass(eq=False)
class _Waiter:
    """A request that waits. ``turn`` becomes the replica that it is put to, or None where none holds its release any more."""

    tenant: str
    release: Digest
    number: int
    turn: asyncio.Future[EngineReplica | None]
    queued: bool = True


class ReplicaAdmission:
    """Counts the requests of tenants at replicas, of which each answers at most ``most`` at a time.

    A request goes to the less busy of two drawn among the replicas that hold its release and have room. Where none has, it waits here, and
    not in a replica's own queue: of the tenants of which a request could go on, the one with the fewest requests under way at all replicas
    comes next; of those that have as few, the one whose request came first (max-min fairness of what is held at a time, Bertsekas and
    Gallager 1992, ch. 6.5). So whoever has nothing under way waits for the next end of a request that it could take the place of, and for
    one request at most of each other tenant that has nothing under way either.

    A request of a tenant waits only where none of the replicas that could answer it has room.

    Where several gateways ask the same replicas, each has its part of ``most``, and what the others do not use.
    """

    def __init__(
        self, replicas: Sequence[EngineReplica], holders: Callable[[Digest], Sequence[EngineReplica]], draw: Random, most: int
    ) -> None:
        self.gateways = 1
        self._replicas, self._holders, self._draw, self._most = replicas, holders, draw, most
        self._under_way = Counter[str]()
        self._waiting: defaultdict[str, dict[Digest, deque[_Waiter]]] = defaultdict(dict)
        self._waiting_each = Counter[str]()
        self._numbers = count()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._waiting_each.total()

    async def enter(self, tenant: str, release: Digest) -> EngineReplica | None:
        """The replica that a request is put to, from now until ``leave`` counted there; None where none holds the release.

        Raises Exhausted (``engine_busy``) where too many wait.
        """
        holders = self._holders(release)
        if not holders:
            return None
        chosen = self._free(holders)  # whoever waits could not go there, or would be there already
        if chosen is not None:
            self._begin(chosen, tenant, release)
            return chosen
        return await self._turn(tenant, release)

    def leave(self, replica: EngineReplica, tenant: str, release: Digest) -> None:
        """A request has ended; another takes its place."""
        replica.end(release)
        _decrease(self._under_way, tenant)
        self.admit()

    def admit(self) -> None:
        """Lets go on who may: something has changed."""
        while self._waiting_each and (found := self._next()) is not None:
            waiter, replica = found
            self._remove(waiter)
            if waiter.turn.cancelled():
                continue
            if replica is not None:
                self._begin(replica, waiter.tenant, waiter.release)
            waiter.turn.set_result(replica)

    def has_room(self, replica: EngineReplica) -> bool:
        """True where one more request may be put to a replica."""
        return replica.busy < max(self._most // self.gateways, 1, self._most - replica.elsewhere)

    async def _turn(self, tenant: str, release: Digest) -> EngineReplica | None:
        mine = self._waiting_each[tenant]
        # One request of each tenant may always wait: a few that fill the room do not shut out the others.
        if mine >= _WAITING_EACH or (mine and self.waiting >= _WAITING):
            raise Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")
        waiter = _Waiter(tenant, release, next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting[tenant].setdefault(release, deque()).append(waiter)
        self._waiting_each[tenant] += 1
        self.admit()
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._remove(waiter)
            elif (replica := waiter.turn.result()) is not None:
                self.leave(replica, tenant, release)
            raise

    def _next(self) -> tuple[_Waiter, EngineReplica | None] | None:
        """Who goes on, and where to; None where nobody can."""
        best: tuple[_Waiter, EngineReplica | None] | None = None
        fewest = 0
        if not any(map(self.has_room, self._replicas)):
            return self._stranded()
        for tenant in sorted(self._waiting, key=self._under_way.__getitem__):
            if best is not None and self._under_way[tenant] > fewest:
                break
            for first, replica in self._able(tenant):
                if best is None or first.number < best[0].number:
                    best, fewest = (first, replica), self._under_way[tenant]
        return best

    def _stranded(self) -> tuple[_Waiter, EngineReplica | None] | None:
        """Who waits for a release that no replica may answer any more."""
        queues = (queue for each in self._waiting.values() for release, queue in each.items() if not self._holders(release))
        return next(((queue[0], None) for queue in queues), None)

    def _able(self, tenant: str) -> Iterator[tuple[_Waiter, EngineReplica | None]]:
        """Of each release of a tenant the first request, where it can go on."""
        for release, queue in self._waiting[tenant].items():
            holders = self._holders(release)
            chosen = self._free(holders)
            if chosen is not None or not holders:
                yield queue[0], chosen

    def _free(self, holders: Sequence[EngineReplica]) -> EngineReplica | None:
        """The less busy of two drawn among those that have room."""
        free = [replica for replica in holders if self.has_room(replica)]
        return min(self._draw.sample(free, min(2, len(free))), key=lambda replica: replica.under_way, default=None)

    def _begin(self, replica: EngineReplica, tenant: str, release: Digest) -> None:
        replica.begin(release)
        self._under_way[tenant] += 1

    def _remove(self, waiter: _Waiter) -> None:
        if not waiter.queued:
            return
        waiter.queued = False
        queues = self._waiting[waiter.tenant]
        queues[waiter.release].remove(waiter)
        if not queues[waiter.release]:
            del queues[waiter.release]
        if not queues:
            del self._waiting[waiter.tenant]
        _decrease(self._waiting_each, waiter.tenant)


def _decrease(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
