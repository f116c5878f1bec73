"""What answering costs: latency and money, from the items that were answered as a server would.

In: item results with times. Out: ``latency_p95_ms``, ``cost_per_1k_requests``, ``tokens_per_request`` and ``answer_tokens``. Must not
know: targets, tasks, the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.spec import MeasureSpec, average
from tailorbird.foundations.statistics import quantile_interval

_MS_PER_HOUR = 3_600_000
_REQUESTS = 1000


def serving_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Latency where enough requests were timed to bound its 95th percentile; cost where any time was measured."""
    latency = latency_of([item.request_ms for item in items if item.request_ms is not None], spec)
    # Items batched for speed cost less than requests do, so timed ones go first.
    timed = [item.latency_ms for item in items if item.request_ms is not None]
    yield from (metric for metric in (latency, cost_of(timed or [item.latency_ms for item in items], spec)) if metric is not None)
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


def cost_of(shares: Sequence[float], spec: MeasureSpec) -> Metric | None:
    """What 1,000 requests cost that occupy the machine for ``shares`` milliseconds each; None where no time was measured."""
    if len(shares) < 2 or max(shares) == 0:
        return None
    prices = [share / _MS_PER_HOUR * spec.price_per_hour * _REQUESTS for share in shares]
    # Items of one batch share its time to the last digit: they are one measurement.
    return average("cost_per_1k_requests", prices, [repr(share) for share in shares], spec)
