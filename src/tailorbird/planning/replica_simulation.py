"""Simulation of one engine replica: discrete events over numbers, with the engine's own schedule and residency."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from tailorbird.domain.capacity import EngineTimings
from tailorbird.planning.adapter_cache import AdapterCache
from tailorbird.planning.request_trace import TracedRequest

#: Of the engine: sequences at a time, new tokens a step beside answers that go on and without them, tokens of a block, requests that may
#: wait in all and of one tenant.
RUNNING, PREFILL, ALONE, BLOCK, WAITING, WAITING_EACH = 64, 256, 1024, 16, 1024, 256
#: Rank of the adapter whose time and size the timings tell.
RANK = 16
_MB = 2**20


class ReplicaBudget(NamedTuple):
    """Megabytes of a replica for weights, and for keys and values."""

    memory_mb: float
    kv_mb: float


@dataclass
class RequestOutcome:
    """What became of a request: moments of its first token and its end (None: refused), and whether it waited for a load of its own."""

    request: TracedRequest
    first: float | None = None
    ended: float | None = None
    missed: bool = False


@dataclass(eq=False)
class _Sequence:
    outcome: RequestOutcome
    computed: int = 0
    made: int = 0
    blocks: int = 0

    @property
    def request(self) -> TracedRequest:
        return self.outcome.request

    @property
    def writes(self) -> bool:
        """True once its prompt is computed."""
        return self.computed >= self.request.prompt


class _Slice(NamedTuple):
    sequence: _Sequence
    tokens: int


class StepClock:
    """Seconds of steps, by an engine's timings."""

    def __init__(self, timings: EngineTimings, ranks: Sequence[int]) -> None:
        self._timings = timings
        self._places = [tokens for tokens, _ in timings.pass_seconds]
        self._values = [seconds for _, seconds in timings.pass_seconds]
        self._costs = [timings.adapter_seconds * rank / RANK for rank in ranks]

    def seconds(self, step: Sequence[_Slice], begun: int) -> float:
        """Of a step in which ``begun`` requests begin, while no adapter is loaded."""
        timings = self._timings
        rows = sum(part.sequence.computed + part.tokens >= part.sequence.request.prompt for part in step)
        looked = sum(part.tokens * (part.sequence.computed + part.sequence.made + part.tokens / 2) for part in step)
        adapters = {part.sequence.request.adapter for part in step}
        fixed = self.passed(sum(part.tokens for part in step)) + timings.row_seconds * rows + timings.request_seconds * begun
        return fixed + timings.context_seconds * looked + sum(self._costs[adapter] for adapter in adapters)

    def passed(self, tokens: int) -> float:
        """The pass over ``tokens`` alone: on the line through the points, beyond the last one on with its slope."""
        places, values = self._places, self._values
        if len(places) == 1 or tokens <= places[0]:
            return values[0]
        right = min(bisect_left(places, tokens), len(places) - 1)
        slope = (values[right] - values[right - 1]) / (places[right] - places[right - 1])
        return max(0.0, values[right - 1] + slope * (tokens - places[right - 1]))


@dataclass
class _FairQueue:
    """Sequences that wait, as in the engine: the tenant that was given the fewest tokens is next."""

    waiting: OrderedDict[int, deque[_Sequence]] = field(default_factory=OrderedDict)
    served: dict[int, float] = field(default_factory=dict)
    floor: float = 0.0
    length: int = 0

    def add(self, sequence: _Sequence) -> None:
        tenant = sequence.request.tenant
        if tenant not in self.waiting:
            self.waiting[tenant] = deque()
            self.served[tenant] = max(self.served.get(tenant, 0.0), self.floor)
        self.waiting[tenant].append(sequence)
        self.length += 1

    def next(self) -> _Sequence | None:
        tenant = min(self.waiting, key=self.served.__getitem__, default=None)
        return None if tenant is None else self.waiting[tenant][0]

    def take(self, sequence: _Sequence) -> None:
        tenant = sequence.request.tenant
        self.floor = max(self.floor, self.served[tenant])
        self.waiting[tenant].popleft()
        self.length -= 1
        if not self.waiting[tenant]:
            del self.waiting[tenant]

    def charge(self, tenant: int, tokens: int) -> None:
        self.served[tenant] = self.served.get(tenant, self.floor) + tokens

    def is_full_for(self, tenant: int) -> bool:
        return self.length >= WAITING or len(self.waiting.get(tenant, ())) >= WAITING_EACH


class ReplicaSimulation:
    """One engine with the adapters of ``ranks``. Before the first request they, or those ``loaded``, were loaded in turn, as a gateway
    loads its names."""

    def __init__(self, timings: EngineTimings, ranks: Sequence[int], budget: ReplicaBudget, loaded: Iterable[int] | None = None) -> None:
        self._timings = timings
        self._clock = StepClock(timings, ranks)
        sizes = [round(_MB * timings.adapter_mb * -(-rank // RANK)) for rank in ranks]
        self.cache = AdapterCache(sizes, round(_MB * (budget.memory_mb - timings.base_mb)))
        for adapter in range(len(ranks)) if loaded is None else loaded:
            self.cache.bring(adapter)
        self._blocks = int(budget.kv_mb * timings.kv_tokens_per_mb) // BLOCK
        self._free = self._blocks
        self._queue, self._running = _FairQueue(), list[_Sequence]()
        self._step, self._left = list[_Slice](), 0.0
        self._parked: dict[int, list[_Sequence]] = {}
        self._loads: deque[int] = deque()
        self._loaded_at = inf
        self._written = 0
        self._begun: dict[int, int] = {}
        self._now = 0.0

    def fits(self, request: TracedRequest) -> bool:
        """Whether the memory for keys and values holds the request: one that it does not hold is refused as it comes."""
        return _blocks(request) <= self._blocks

    def remember(self, adapters: Iterable[int]) -> None:
        """The beginnings of these adapters' prompts have been read before."""
        self._begun.update(dict.fromkeys(adapters, 0))

    def run(self, requests: Sequence[TracedRequest]) -> list[RequestOutcome]:
        """What becomes of all ``requests``, which come in order. A replica runs once."""
        outcomes = [RequestOutcome(request) for request in requests]
        coming = iter(outcomes)
        following = next(coming, None)
        while following is not None or self._step or self._loads:
            arrival = following.request.arrival if following else inf
            pace = self._timings.load_slowdown if self._loads else 1.0
            ended = self._now + self._left * pace if self._step else inf
            moment = min(arrival, ended, self._loaded_at)
            if self._step:
                self._left -= (moment - self._now) / pace
            self._now = moment
            if moment == arrival and following:
                self._arrive(following)
                following = next(coming, None)
            elif moment == self._loaded_at:
                self._loaded()
            else:
                self._computed()
            if not self._step:
                self._plan()
        return outcomes

    def _arrive(self, outcome: RequestOutcome) -> None:
        request, sequence = outcome.request, _Sequence(outcome)
        if self._queue.is_full_for(request.tenant) or sum(map(len, self._parked.values())) >= WAITING or not self.fits(request):
            return
        if self.cache.hold(request.adapter):
            self._queue.add(sequence)
            return
        # As in the engine: whoever asks for an adapter that is not there has it brought, also where it is on its way.
        outcome.missed = request.adapter not in self._parked
        self._parked.setdefault(request.adapter, []).append(sequence)
        if outcome.missed:
            self._loads.append(request.adapter)
            if len(self._loads) == 1:
                self._load()

    def _load(self) -> None:
        busy = bool(self._step)
        self._loaded_at = self._now + (self._timings.busy_load_seconds if busy else self._timings.load_seconds)

    def _loaded(self) -> None:
        adapter = self._loads.popleft()
        self.cache.bring(adapter)
        for sequence in self._parked.pop(adapter):
            self._queue.add(sequence)
        self._loaded_at = inf
        if self._loads:
            self._load()

    def _plan(self) -> None:
        """The next step, as the engine's scheduler plans it."""
        step = [_Slice(sequence, 1) for sequence in self._running if sequence.writes]
        room, begun = PREFILL if step else ALONE, 0
        for sequence in self._running:
            if room > 0 and not sequence.writes:
                step.append(_Slice(sequence, min(room, sequence.request.prompt - sequence.computed)))
                room -= step[-1].tokens
        while room > 0 and len(self._running) < RUNNING and (following := self._queue.next()) is not None:
            need = _blocks(following.request)
            if need > self._free:
                break
            self._queue.take(following)
            self._free -= need
            following.blocks = need
            following.computed = self._cached(following.request)
            self._running.append(following)
            step.append(_Slice(following, min(room, following.request.prompt - following.computed)))
            room -= step[-1].tokens
            begun += 1
        self._step = step
        self._left = self._clock.seconds(step, begun) if step else 0.0

    def _computed(self) -> None:
        step, self._step = self._step, []
        for sequence, tokens in step:
            self._queue.charge(sequence.request.tenant, tokens)
            if not sequence.writes:
                sequence.computed += tokens
            if sequence.writes:
                sequence.made += 1
                self._tell(sequence)

    def _tell(self, sequence: _Sequence) -> None:
        outcome, request = sequence.outcome, sequence.request
        if sequence.made == 1:
            outcome.first = self._now + self._timings.delay_seconds
            self._begun[request.adapter] = self._written
        if sequence.made >= request.answer:
            outcome.ended = self._now + self._timings.delay_seconds
            self._running.remove(sequence)
            self._free += sequence.blocks
            self._written += sequence.blocks
            self.cache.release(request.adapter)

    def _cached(self, request: TracedRequest) -> int:
        """Tokens of the prompt that are in the prefix cache: of an adapter that was asked since as much was written as memory holds."""
        written = self._begun.get(request.adapter)
        if written is None or self._written - written > self._blocks:
            return 0
        return request.shared // BLOCK * BLOCK


def _blocks(request: TracedRequest) -> int:
    """Blocks of keys and values that a request takes."""
    return -(-(request.prompt + request.answer) // BLOCK)
