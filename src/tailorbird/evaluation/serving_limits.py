"""Latency and cost per request, timed until the objective's limits on them are settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.evaluation.measure_spec import MeasureSpec, average
from tailorbird.stats.intervals import quantile_interval, spend

_MS_PER_HOUR = 3_600_000
_REQUESTS = 1000


@dataclass(frozen=True)
class Timing:
    """One request: its wall time, its share of the time in which the machine was occupied, in milliseconds, and its ``tokens``, read and
    written."""

    request_ms: float
    share_ms: float
    tokens: tuple[int, int] = (0, 0)


def serving_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Latency where enough requests were timed to bound its 95th percentile; cost where any time was measured."""
    latency = latency_of([item.request_ms for item in items if item.request_ms is not None], spec)
    # Items batched for speed cost less than requests do, so timed ones go first.
    timed = [item for item in items if item.request_ms is not None]
    cost = cost_of(
        [Timing(item.request_ms or 0.0, item.latency_ms, (item.prompt_tokens, item.completion_tokens)) for item in timed or items], spec
    )
    yield from (metric for metric in (latency, cost) if metric is not None)
    tokens = [float(item.prompt_tokens + item.completion_tokens) for item in items]
    if len(items) > 1 and max(tokens) > 0:
        yield average("tokens_per_request", tokens, [item.group for item in items], spec)
    answered = [float(item.completion_tokens) for item in items]
    if len(items) > 1 and max(answered) > 0:
        yield average("answer_tokens", answered, [item.group for item in items], spec)


def latency_of(times: Sequence[float], spec: MeasureSpec) -> Metric | None:
    """The 95th percentile of requests of so many milliseconds; None where too few bound it."""
    bounds = quantile_interval(times, 0.95, spec.confidence)
    if bounds is None:
        return None
    return Metric(
        name="latency_p95_ms",
        value=float(np.quantile(times, 0.95)),
        low=bounds[0],
        high=bounds[1],
        confidence=spec.confidence,
        n=len(times),
        method="order-statistics",
    )


def cost_of(timings: Sequence[Timing], spec: MeasureSpec) -> Metric | None:
    """What 1,000 requests cost: the time for which each occupies the machine, or its tokens where a server is paid for them; None where
    nothing was measured."""
    if len(timings) < 2:
        return None
    if spec.token_prices is not None:
        read, written = spec.token_prices
        paid = [(each.tokens[0] * read + each.tokens[1] * written) * _REQUESTS for each in timings]
        return average("cost_per_1k_requests", paid, [str(place) for place, _ in enumerate(paid)], spec)
    shares = [each.share_ms for each in timings]
    if max(shares) == 0:
        return None
    prices = [share / _MS_PER_HOUR * spec.price_per_hour * _REQUESTS for share in shares]
    # Items of one batch share its time to the last digit: they are one measurement.
    return average("cost_per_1k_requests", prices, [repr(share) for share in shares], spec)


#: Looks at most: the first, one more where a limit is missed, and others while one stays open.
LOOKS = 4


@dataclass(frozen=True)
class ServingLimits:
    """Upper bounds on what answering takes, by the names of the metrics."""

    bounds: dict[str, float]

    def missed(self, metrics: dict[str, Metric]) -> bool:
        """True when some limit is proven to be exceeded."""
        return any(name in metrics and metrics[name].low > bound for name, bound in self.bounds.items())

    def proven(self, metrics: dict[str, Metric]) -> bool:
        """True when every limit is proven to be kept."""
        return all(name in metrics and metrics[name].high <= bound for name, bound in self.bounds.items())


#: Times so many further requests, and maybe fewer: what it is given is the number wanted, and whether it is for a miss to be timed again.
More = Callable[[int, bool], Sequence[Timing]]


@lru_cache
def fewest_requests(confidence: float, look: int = 1) -> int:
    """Fewest requests whose order statistics bound a 95th percentile at a look."""
    wanted = spend(confidence, look)
    return next(n for n in count(2) if quantile_interval(range(n), 0.95, wanted) is not None)


def timings_of(predictions: Sequence[Prediction]) -> list[Timing]:
    """Timings of predictions that were answered as requests."""
    timed = ((each.request_ms, each) for each in predictions)
    return [Timing(wall, each.latency_ms, (each.prompt_tokens, each.completion_tokens)) for wall, each in timed if wall is not None]


def measure_until_settled(first: Sequence[Timing], more: More, limits: ServingLimits, spec: MeasureSpec) -> dict[str, Metric]:
    """Metrics of ``first`` and of as many further requests as it takes to prove ``limits`` either way, while ``more`` gives any.

    Requests are filled up to ``fewest_requests`` first, which looks at nothing. A miss is timed once more, by as many new requests, which
    take the place of those before them: the machine may have been busy. What stays open is timed twice as often.

    Requests need no labels, so more of them can be timed than there are items. Looking again is paid for: the k-th look must meet the
    confidence that ``spend`` leaves it, so that all looks together err no more often than one may.
    """
    timings = list(first)
    if "latency_p95_ms" in limits.bounds and (lacking := fewest_requests(spec.confidence) - len(timings)) > 0:
        timings += more(lacking, False)
    again = True
    for look in range(1, LOOKS + 1):
        found = _measured(timings, spec, look)
        missed = limits.missed(found)
        if look == LOOKS or limits.proven(found) or (missed and not again):
            return found
        least = fewest_requests(spec.confidence, look + 1) if "latency_p95_ms" in limits.bounds else 1
        further = list(more(max(least, len(timings)) if missed else max(least - len(timings), len(timings), 1), missed))
        if not further:
            return found
        timings, again = (further, False) if missed else (timings + further, again)
    raise AssertionError("the last look returns")


def _measured(timings: Sequence[Timing], spec: MeasureSpec, look: int) -> dict[str, Metric]:
    """The intervals hold at what this look must meet, and so at what ``spec`` asks."""
    stricter = replace(spec, confidence=spend(spec.confidence, look))
    found = (latency_of([each.request_ms for each in timings], stricter), cost_of(timings, stricter))
    return {metric.name: metric.model_copy(update={"confidence": spec.confidence}) for metric in found if metric is not None}
