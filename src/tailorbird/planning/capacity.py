"""Capacity plan of serving: replicas, memory, hit rate, latency, throughput and cost for given traffic, by simulation, and its cliffs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from typing import NamedTuple

from tailorbird.domain.capacity import CapacityPlan, CapacityReading, EngineTimings
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Prices, Reason
from tailorbird.domain.serving_traffic import Arrivals, ServingTraffic
from tailorbird.planning.replica_simulation import PREFILL, RANK, WAITING, ReplicaBudget, ReplicaSimulation, RequestOutcome
from tailorbird.planning.request_trace import TracedRequest, adapter_ranks, adapter_shares, request_trace

#: Requests of a simulation for each replica, the shortest time that is simulated (s), and the share at its beginning that is not counted.
REQUESTS, SHORTEST, WARM = 1500, 60.0, 0.25
#: Of a reading: bursts at least, requests that are traced, and tokens (those of answers, and steps of prompts) that are simulated, at most.
_BURSTS, _MOST_REQUESTS, _MOST_TOKENS = 20, 400_000, 1_000_000
#: Requests of a replica at least: where replicas are alike, and where each has adapters of its own. Fewer tell nothing.
_LEAST, _LEAST_OWN = 100, 25
#: Requests by which the most that a replica answers is measured, and those of a share that can be measured.
_TIMED, _LEAST_TIMED = 800, 20
#: Requests a second that no replica's gateway answers, whatever the machine: timings that say so are wrong.
_IMPOSSIBLE = 50_000.0
#: Hours of a month.
HOURS = 730.0
MOST_REPLICAS, MOST_ADAPTERS = 200, 100_000
#: Of replicas that are dealt requests in turn, all alike, so many are simulated.
_SAMPLED = 8
#: Without a target, an answer may take this many times the p95 that it has where every adapter is in memory and one request a time comes.
_SLOWER = 3.0
#: Of what comes, so much must be answered.
_ANSWERED = 0.95
SOURCE = "docs/decisions/0116"


class SimulatedSpan(NamedTuple):
    """Seconds of a trace, how many of the replicas are simulated, and requests of each; ``wanted`` of each, were tokens without a bound."""

    seconds: float
    sampled: int
    requests: float
    wanted: float


@dataclass(frozen=True)
class CapacityTwin:
    """Simulated replicas of an engine with ``timings`` under ``traffic``."""

    traffic: ServingTraffic
    timings: EngineTimings
    seed: int = 0

    def of(self, *, adapters: int | None = None, per_second: float | None = None) -> CapacityTwin:
        """The same with another number of adapters, or another rate."""
        fleet, arrivals = self.traffic.adapters, self.traffic.arrivals
        changed = {
            "adapters": fleet.model_copy(update={"count": adapters or fleet.count}),
            "arrivals": arrivals.model_copy(update={"per_second": per_second or arrivals.per_second}),
        }
        return CapacityTwin(self.traffic.model_copy(update=changed), self.timings, self.seed)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The rank of each adapter."""
        return adapter_ranks(self.traffic)

    @property
    def resident(self) -> int:
        """Adapters that fit beside the base in a replica's memory, of the mean size of theirs."""
        free = self.traffic.engine.memory_mb - self.timings.base_mb
        return max(0, int(free / (self.timings.adapter_mb * sum(-(-rank // RANK) for rank in self.ranks) / len(self.ranks))))

    def reading(self, replicas: int) -> CapacityReading:
        """What ``replicas`` do with the traffic. Raises InvalidInput: nothing is answered, or too long answers to simulate."""
        seconds, sampled, *_ = self.span(replicas)
        trace = request_trace(self.traffic, seconds, self.seed)
        while not trace or trace[-1].arrival < WARM * seconds:  # bursts that all came at the beginning, or not yet
            seconds *= 2
            trace = request_trace(self.traffic, seconds, self.seed)
        return self.told(self.outcomes(trace, replicas, sampled), (WARM * seconds, seconds), replicas, sampled)

    def span(self, replicas: int) -> SimulatedSpan:
        """How much of the traffic a reading of ``replicas`` simulates. Raises InvalidInput (``traffic_long``): of so long answers not even
        the fewest requests that tell something can be."""
        arrivals, sampled = self.traffic.arrivals, self._sampled(replicas)
        # Of a burst no more than wait and are on their way to memory are computed, the others refused as they come.
        tokens = self._tokens * min(1.0, 2 * WAITING * replicas / arrivals.burst)
        most, bursts = _MOST_TOKENS / tokens, _BURSTS * arrivals.burst / replicas
        least = max(bursts, _LEAST if self._alike else max(_LEAST_OWN, _LEAST / replicas))
        if self._alike:  # rather some replicas for long than many for a moment
            sampled = max(1, min(sampled, int(most / max(bursts, 4 * _LEAST))))
        if least * sampled > most:
            raise _too_long(self._tokens)
        wanted = max(REQUESTS, bursts, SHORTEST * arrivals.per_second / replicas)
        requests = min(wanted, most / sampled, _MOST_REQUESTS / replicas)
        return SimulatedSpan(requests * replicas / arrivals.per_second, sampled, requests, wanted)

    def outcomes(self, trace: Sequence[TracedRequest], replicas: int, sampled: int | None = None) -> list[RequestOutcome]:
        """What becomes of each request of a trace, replica by replica; of many replicas that are alike, of some."""
        shares = _dealt(trace, replicas, self.traffic.engine.routing)[: sampled or self._sampled(replicas)]
        return [outcome for place, share in enumerate(shares) for outcome in self._replica(place, replicas).run(share)]

    def told(
        self, outcomes: Sequence[RequestOutcome], within: tuple[float, float], replicas: int, sampled: int | None = None
    ) -> CapacityReading:
        """Requests that came within two moments; rates are of those that ended within them. Raises InvalidInput: none did."""
        start, stop = within
        came = [one for one in outcomes if start <= one.request.arrival < stop]
        ended = [one for one in outcomes if one.ended is not None and start <= one.ended < stop]
        done = [one for one in came if one.ended is not None and one.first is not None]
        if not done:
            raise _unanswerable()
        seen = replicas / (sampled or self._sampled(replicas))
        latencies = sorted(1000 * (one.ended - one.request.arrival) for one in done if one.ended is not None)
        firsts = sorted(1000 * (one.first - one.request.arrival) for one in done if one.first is not None)
        return CapacityReading(
            replicas=replicas,
            adapters=self.traffic.adapters.count,
            requests_per_second=seen * len(ended) / (stop - start),
            tokens_per_second=seen * sum(one.request.answer for one in ended) / (stop - start),
            hit_rate=1 - sum(one.missed for one in came) / len(came),
            p50_ms=quantile(latencies, 0.5),
            p95_ms=quantile(latencies, 0.95),
            first_token_p95_ms=quantile(firsts, 0.95),
            load=self.traffic.arrivals.per_second / self.most_of(replicas),
            refused=1 - len(done) / len(came),
        )

    @cached_property
    def most_per_second(self) -> float:
        """The most requests a second that one replica which is asked for all adapters answers."""
        return self._fastest(self._timed(1), self._replica)

    def most_of(self, replicas: int) -> float:
        """The most requests a second of which ``replicas`` answer all. Where each adapter is asked on one replica, the replica whose share
        is the first to be more than it answers limits all."""
        if self._alike:
            return replicas * self.most_per_second
        if replicas not in self._mosts:
            shares, expected = _dealt(self._timed(replicas), replicas, "adapter"), adapter_shares(self.traffic)
            self._mosts[replicas] = min(
                self._fastest(share, partial(self._replica, place, replicas)) / sum(expected[place::replicas])
                for place, share in enumerate(shares)
                if len(share) >= _LEAST_TIMED
            )
        return self._mosts[replicas]

    def _fastest(self, requests: Sequence[TracedRequest], replica: Callable[[], ReplicaSimulation]) -> float:
        """The rate at which a replica answers requests that come twice as fast as it does."""
        hurried = [request._replace(arrival=0.0) for request in requests[: -(-5 * len(requests) // 16)]]
        ends = [one.ended for one in replica().run(hurried) if one.ended is not None]
        if not ends:
            raise _unanswerable()
        fastest = len(ends) / max(ends)
        if fastest > _IMPOSSIBLE:
            raise _impossible(fastest)
        hurried = [request._replace(arrival=place / (2 * fastest)) for place, request in enumerate(requests)]
        ended = sorted(one.ended for one in replica().run(hurried) if one.ended is not None)
        # Neither the empty engine at the beginning nor the last few answers, which have it to themselves.
        first, last = len(ended) // 5, len(ended) * 4 // 5
        seconds = ended[min(last, len(ended) - 1)] - ended[first]
        return (last - first) / seconds if seconds > 0 else fastest

    def _timed(self, replicas: int) -> list[TracedRequest]:
        """Requests by which the most that ``replicas`` answer is measured. Raises InvalidInput (``traffic_long``)."""
        count = min(_TIMED * replicas, int(_MOST_TOKENS / self._tokens))
        if count < max(_LEAST, _LEAST_OWN * replicas):
            raise _too_long(self._tokens)
        return self._drawn(count)

    def _drawn(self, count: int) -> list[TracedRequest]:
        """About so many requests, one at a moment."""
        one_by_one = self.traffic.model_copy(update={"arrivals": Arrivals(per_second=1.0)})
        return request_trace(one_by_one, float(count), self.seed)

    @cached_property
    def _mosts(self) -> dict[int, float]:
        return {}

    @cached_property
    def _tokens(self) -> float:
        """Tokens of an answer and steps of its prompt, which are what a simulated request takes, on average. Raises InvalidInput."""
        replica, drawn = self._replica(), self._drawn(_TIMED)
        found = sum(one.answer + one.prompt / PREFILL for one in drawn if replica.fits(one)) / len(drawn)
        if not found:
            raise _unanswerable()
        return found

    @property
    def _alike(self) -> bool:
        return self.traffic.engine.routing == "spread"

    def _sampled(self, replicas: int) -> int:
        return min(replicas, _SAMPLED) if self._alike else replicas

    def _replica(self, place: int = 0, replicas: int = 1) -> ReplicaSimulation:
        """The replica at ``place``, with the adapters in memory that it is asked for."""
        engine = self.traffic.engine
        if engine.memory_mb < self.timings.base_mb + self.timings.adapter_mb * max(-(-rank // RANK) for rank in self.ranks):
            raise InvalidInput(
                f"the base model alone takes {self.timings.base_mb:,.0f} MiB of an engine's {engine.memory_mb:,}",
                "raise engine.memory_mb: it must hold the base and one adapter at least",
                code="traffic_memory",
                param="engine.memory_mb",
            )
        own = None if self._alike else range(place, len(self.ranks), replicas)
        return ReplicaSimulation(self.timings, self.ranks, ReplicaBudget(engine.memory_mb, engine.kv_mb), own)


def _unanswerable() -> InvalidInput:
    return InvalidInput(
        "no request of this traffic is ever answered: none fits into the memory for keys and values",
        "ask for shorter prompts and answers, or raise engine.kv_mb",
        code="traffic_unanswerable",
    )


def _impossible(per_second: float) -> InvalidInput:
    return InvalidInput(
        f"by these timings a replica answers {per_second:,.0f} requests a second, which no machine does",
        "state timings in seconds, for steps of a whole model (docs/planning.md), or have them measured",
        code="traffic_timings",
        param="timings",
    )


def _too_long(tokens: float) -> InvalidInput:
    return InvalidInput(
        f"too much to simulate: a request takes {tokens:,.0f} tokens of answer and steps of its prompt on average",
        "plan with shorter answers, smaller bursts, or fewer replicas (docs/planning.md)",
        code="traffic_long",
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of the ordered ones do not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def capacity_plan(traffic: ServingTraffic, timings: EngineTimings, prices: Prices) -> CapacityPlan:
    """Replicas for ``traffic``, what they do and cost, and how far the cliffs are. Raises InvalidInput."""
    twin = CapacityTwin(traffic, timings)
    alone = _alone(twin)
    limit = traffic.target.p95_ms if traffic.target else _SLOWER * alone
    replicas = traffic.replicas or _fewest(twin, limit, alone)
    reading = twin.reading(replicas)
    holds = _holds(reading, traffic.arrivals.per_second, limit)
    adapters, others = _most_adapters(twin, replicas, limit) if holds else (None, ())
    per_hour = traffic.price_per_hour if traffic.price_per_hour is not None else prices.per_hour
    answered = reading.requests_per_second * 3600
    plan = CapacityPlan(
        reading=reading,
        holds=holds,
        limit_ms=limit,
        resident=twin.resident,
        memory_gb=(traffic.engine.memory_mb + traffic.engine.kv_mb) / 1024,
        cost_per_month=replicas * per_hour * HOURS,
        cost_per_1k=1000 * replicas * per_hour / answered if answered else 0.0,
        currency=prices.currency,
        cliff_adapters=adapters,
        cliff_per_second=max(traffic.arrivals.per_second if holds else 0.0, _most_per_second(twin, replicas, limit)),
        others=others,
    )
    return plan.model_copy(update={"reasons": tuple(_reasons(twin, plan))})


def _alone(twin: CapacityTwin) -> float:
    """p95 (ms) of requests of which no two are there at a time, their adapters in memory."""
    adapters = max(1, min(twin.traffic.adapters.count, twin.resident))
    apart = CapacityTwin(twin.traffic.model_copy(update={"arrivals": Arrivals(per_second=1.0)}), twin.timings).of(adapters=adapters)
    return apart.of(per_second=max(1e-3, 0.02 * apart.most_of(1))).reading(1).p95_ms


def _holds(reading: CapacityReading, per_second: float, limit: float) -> bool:
    answered = reading.requests_per_second >= _ANSWERED * per_second or reading.load < 1
    return reading.p95_ms <= limit and answered and reading.refused == 0


def _fewest(twin: CapacityTwin, limit: float, alone: float) -> int:
    per_second = twin.traffic.arrivals.per_second

    def enough(replicas: int) -> bool:
        return _holds(twin.reading(replicas), per_second, limit)

    high = min(MOST_REPLICAS, max(1, ceil(per_second / twin.most_per_second)))
    while alone <= limit and not (found := enough(high)) and high < MOST_REPLICAS:
        high = min(2 * high, MOST_REPLICAS)
    if alone > limit or not found:
        raise InvalidInput(
            f"no number of replicas up to {MOST_REPLICAS:,} answers 95 of 100 requests within {limit:,.0f} ms: a lone one has {alone:,.0f}",
            "raise target.p95_ms or engine.memory_mb, or ask for shorter answers",
            code="traffic_target",
            param="target.p95_ms",
        )
    return _edge(1, high, enough) if high > 1 else 1


def _edge(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest number from ``low`` to ``high``, which is enough, that is."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _most_adapters(twin: CapacityTwin, replicas: int, limit: float) -> tuple[int | None, tuple[CapacityReading, ...]]:
    """The largest number of adapters with which p95 still holds, within a tenth; None: any number does; and the readings on the way."""
    readings: dict[int, CapacityReading] = {}

    def good(count: int) -> bool:
        readings[count] = twin.of(adapters=count).reading(replicas)
        return _holds(readings[count], twin.traffic.arrivals.per_second, limit)

    low, high = twin.traffic.adapters.count, 2 * max(twin.traffic.adapters.count, twin.resident)
    while high < MOST_ADAPTERS and good(high):
        low, high = high, 4 * high
    if high >= MOST_ADAPTERS:
        return None, _in_order(readings)
    while high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low, _in_order(readings)


def _in_order(readings: dict[int, CapacityReading]) -> tuple[CapacityReading, ...]:
    return tuple(readings[count] for count in sorted(readings))


def _most_per_second(twin: CapacityTwin, replicas: int, limit: float) -> float:
    """The largest rate at which p95 still holds, within a twentieth of the most that can be answered; 0 where none does."""
    most, parts = twin.most_of(replicas), 20

    def bad(part: int) -> bool:
        rate = most * part / parts
        return not _holds(twin.of(per_second=rate).reading(replicas), rate, limit)

    return most * (_edge(1, parts + 1, lambda part: part > parts or bad(part)) - 1) / parts


def _dealt(trace: Sequence[TracedRequest], replicas: int, routing: str) -> list[list[TracedRequest]]:
    shares: list[list[TracedRequest]] = [[] for _ in range(replicas)]
    for place, request in enumerate(trace):
        shares[(request.adapter if routing == "adapter" else place) % replicas].append(request)
    return shares


def _reasons(twin: CapacityTwin, plan: CapacityPlan) -> Iterator[Reason]:
    timings, traffic, reading = twin.timings, twin.traffic, plan.reading
    when = f"measured {timings.measured_at:%Y-%m-%d} on {timings.machine}" if timings.measured_at else "stated in the file"
    yield Reason(rule="timings", text=f"the engine's timings were {when}, steps within {timings.error:.0%}", source=SOURCE)
    of = f"{traffic.adapters.count:,} adapters, of which {plan.resident:,} fit into {traffic.engine.memory_mb:,} MiB beside the base"
    misses = f"{1 - reading.hit_rate:.1%} of requests wait {1000 * timings.busy_load_seconds:,.0f} ms for theirs"
    yield Reason(rule="cache", text=f"{of}: {misses}, and steps meanwhile take {timings.load_slowdown:.2g} times as long", source=SOURCE)
    rate = f"{traffic.arrivals.per_second:.3g} requests a second of at most {twin.most_of(reading.replicas):.3g}"
    yield Reason(rule="load", text=f"{rate}: {reading.load:.0%} load", source=SOURCE)
    span = twin.span(reading.replicas)
    if span.requests < span.wanted:
        simulated = f"{span.requests * span.sampled:,.0f} requests on {span.sampled} of {reading.replicas} replicas were simulated"
        rougher = f"{span.requests:,.0f} each in place of {span.wanted:,.0f}: readings are rougher"
        yield Reason(rule="requests", text=f"{simulated}, {rougher}", source=SOURCE)
    limit = "the target" if traffic.target else f"no target: {_SLOWER:g} times what a lone request takes with its adapter in memory"
    yield Reason(rule="limit", text=f"p95 may be {plan.limit_ms:,.0f} ms ({limit})", source=SOURCE)
    if traffic.target and reading.replicas > 1:
        fewer = twin.reading(reading.replicas - 1)
        yield Reason(
            rule="replicas", text=f"with {fewer.replicas} p95 would be {fewer.p95_ms:,.0f} ms at {fewer.load:.0%} load", source=SOURCE
        )
    if reading.replicas > 1 and traffic.engine.routing == "spread" and reading.hit_rate < 0.99:
        yield Reason(rule="routing", text="every replica holds the same popular adapters, since requests are dealt in turn", source=SOURCE)
