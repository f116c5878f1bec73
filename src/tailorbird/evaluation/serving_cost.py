"""What answering costs: latency and money, from the items that were answered as a server would.

In: item results with times. Out: ``latency_p95_ms``, ``cost_per_1k_requests`` and ``tokens_per_request``. Must not know: targets, tasks,
the machine.
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
    times = [item.request_ms for item in items if item.request_ms is not None]
    bounds = quantile_interval(times, 0.95, spec.confidence)
    if bounds is not None:
        yield Metric(
            name="latency_p95_ms",
            value=float(np.quantile(times, 0.95)),
            low=bounds[0],
            high=bounds[1],
            confidence=spec.confidence,
            n=len(times),
            method="order-statistics",
        )
    yield from _cost(items, spec)
    tokens = [float(item.prompt_tokens + item.completion_tokens) for item in items]
    if len(items) > 1 and max(tokens) > 0:
        yield average("tokens_per_request", tokens, [item.group for item in items], spec)


def _cost(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """An item occupies the machine for its share of the batch.

    Items batched for speed cost less than requests do, so timed ones go first.
    """
    timed = [item.latency_ms for item in items if item.request_ms is not None]
    shares = timed or [item.latency_ms for item in items]
    if len(shares) < 2 or max(shares) == 0:
        return
    prices = [share / _MS_PER_HOUR * spec.price_per_hour * _REQUESTS for share in shares]
    # Items of one batch share its time to the last digit: they are one measurement.
    yield average("cost_per_1k_requests", prices, [repr(share) for share in shares], spec)
