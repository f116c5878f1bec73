"""Engine replicas: several engines behind one gateway, as one ``EngineDriver``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from random import Random
from typing import TypeVar

from tailorbird.domain.effect import TokenChances
from tailorbird.domain.engine_replica import ReplicaDrain, ReplicaStanding
from tailorbird.domain.errors import NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.retrieval import RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Embeddings, EngineDriver, EngineState, LabelScores, LoadRequest, ProbeRequest, Ranked, Residency
from tailorbird.serving.engine_replica import EngineReplica
from tailorbird.serving.replica_admission import ReplicaAdmission
from tailorbird.serving.replica_placement import ReplicaPlacement, not_loaded

_log = logging.getLogger("tailorbird.serving")

_Answer = TypeVar("_Answer")

#: Requests that a replica is given at a time, unless it is said otherwise: what vLLM computes together by default on most GPUs.
REQUESTS_EACH = 256


class EngineReplicas:
    """Implements ``EngineDriver`` over replicas by their addresses, of which any may go away and come back, or be drained.

    A release is where ``ReplicaPlacement`` puts it. A request goes to the less busy of two that hold its release (power of two choices,
    Mitzenmacher 2001, IEEE TPDS 12(10)), each tenant in its turn (``ReplicaAdmission``); where none that answers holds it, it is loaded
    first. What no replica began to answer is asked of another.
    """

    def __init__(self, drivers: Mapping[str, EngineDriver], draw: Random | None = None, most: int = REQUESTS_EACH) -> None:
        draw = draw or Random()
        self._replicas = tuple(EngineReplica(driver, address) for address, driver in drivers.items())
        self._placement = ReplicaPlacement(self._replicas, draw, self._on_change)
        self._admission = ReplicaAdmission(self._replicas, self._placement.holders, draw, most)

    def drain(self, drains: Collection[ReplicaDrain]) -> None:
        """Asks nothing new of these replicas, and of no others: what one of them alone holds is loaded by others, and asked of it until
        then, unless it is ``forced``."""
        wanted = {drain.address: drain for drain in drains}
        for replica in self._replicas:
            before, replica.drain = replica.drain, wanted.get(replica.address)
            if replica.drain is not None and replica.drain != before:
                _log.info("the replica %s of the engine is drained", replica.address)
                self._placement.move(replica)
            elif before is not None and replica.drain is None:
                _log.info("the replica %s of the engine is asked again", replica.address)
        self._on_change()

    def hear(self, gateways: int, under_way: Mapping[str, int]) -> None:
        """How many gateways there are, this one among them, and what the others have under way at each replica, by address."""
        self._admission.gateways = max(1, gateways)
        for replica in self._replicas:
            replica.elsewhere = under_way.get(replica.address, 0)
        self._on_change()

    def standing(self) -> tuple[ReplicaStanding, ...]:
        """How each replica stands."""
        return tuple(
            ReplicaStanding(
                address=replica.address,
                answers=not replica.away,
                drained=replica.drain is not None,
                under_way=replica.busy,
                releases=len(replica.held),
                alone=len(self._placement.alone(replica)) if replica.drain is not None and not replica.drain.forced else 0,
            )
            for replica in self._replicas
        )

    def prepare(self, before: Collection[Digest], shares: Mapping[Digest, float]) -> bool:
        """As ``ReplicaPlacement.prepare``: True once what is about to answer a name is held by as many replicas as that takes."""
        return self._placement.prepare(before, shares)

    async def load(self, request: LoadRequest) -> None:
        """As ``ReplicaPlacement.load``."""
        await self._placement.load(request)

    async def unload(self, release: Digest) -> None:
        """As ``EngineDriver.unload``, on every replica that holds it."""
        await self._placement.unload(release)
        self._on_change()

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that some replica holds that may be asked. Raises Unavailable when no replica answers."""
        await self._placement.look()
        self._on_change()
        return tuple(dict.fromkeys(release for replica in self._replicas for release in replica.held if replica.answers_for(release)))

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
            (replica, tenant), begun = await self._chosen(release), False
            try:
                with self._counted(replica, tenant, release):
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
        """What all replicas that answer are doing, added up, with the requests that wait for one of them here; a release is resident where
        it is on one of them."""
        found = await asyncio.gather(*(replica.driver.state() for replica in self._placement.live), return_exceptions=True)
        states = [state for state in found if isinstance(state, EngineState)]
        if not states:
            raise next((error for error in found if isinstance(error, TailorbirdError)), self._placement.none_answers())
        sums = {name: sum(getattr(state, name) for state in states) for name in EngineState.model_fields if name != "releases"}
        sums["waiting"] += self._admission.waiting
        releases: dict[Digest, Residency] = {}
        for one in (one for state in states for one in state.releases):
            releases[one.release] = _together(releases[one.release], one) if one.release in releases else one
        return EngineState(**sums, releases=tuple(releases.values()))

    async def ready(self) -> bool:
        """True when one replica answers."""
        return any(await asyncio.gather(*(replica.driver.ready() for replica in self._replicas)))

    async def close(self) -> None:
        """Ends loads under way, and closes the connections of all."""
        await self._placement.close()
        await asyncio.gather(*(replica.driver.close() for replica in self._replicas), return_exceptions=True)

    def _on_change(self) -> None:
        self._admission.admit()

    def _attempts(self) -> Iterator[bool]:
        """One attempt for each replica and one more, for what was loaded anew; True with the last."""
        yield from (place == len(self._replicas) for place in range(len(self._replicas) + 1))

    async def _asked(self, release: Digest, ask: Callable[[EngineDriver], Awaitable[_Answer]]) -> _Answer:
        for last in self._attempts():
            replica, tenant = await self._chosen(release)
            try:
                with self._counted(replica, tenant, release):
                    return await ask(replica.driver)
            except (Unavailable, NotFound) as error:
                if last or not await self._left(replica, release, error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _chosen(self, release: Digest) -> tuple[EngineReplica, str]:
        """The replica that a request is put to, and the tenant for whom it is counted there from now on. Raises NotFound (the release was
        never loaded), Exhausted (too many requests wait), and as ``load``."""
        request = self._placement.requests.get(release)
        if request is None:
            raise not_loaded(release)
        while (replica := await self._entered(request)) is None:
            await self._placement.bring(release)
        return replica, request.tenant

    @contextmanager
    def _counted(self, replica: EngineReplica, tenant: str, release: Digest) -> Iterator[None]:
        try:
            yield
        finally:
            self._admission.leave(replica, tenant, release)

    async def _entered(self, request: LoadRequest) -> EngineReplica | None:
        """The replica that a request was let in to; None where none holds its release."""
        holders = self._placement.holders(request.release)
        if holders:
            full = not any(map(self._admission.has_room, holders))
            self._placement.copy_if_hot(request.release, holders, full=full)
        return await self._admission.enter(request.tenant, request.release)

    async def _left(self, replica: EngineReplica, release: Digest, error: TailorbirdError) -> bool:
        """Notes that a replica is away, or was started anew without the release; whether another may be asked. One that answers and refuses
        a request has failed that request alone: another would do so, too."""
        if isinstance(error, Unavailable):
            return not await replica.answers() and release in self._placement.requests
        replica.drop(release)
        return release in self._placement.requests


def _together(one: Residency, other: Residency) -> Residency:
    counts = {name: getattr(one, name) + getattr(other, name) for name in ("loads", "evictions", "requests", "load_seconds")}
    return one.model_copy(update=counts | {"resident": one.resident or other.resident, "pinned": one.pinned or other.pinned})
