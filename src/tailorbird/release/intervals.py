"""A metric's interval at the confidence that a look must meet.

In: a metric with the interval it was stored with. Out: the interval at another confidence. Must not know: targets, verdicts.
"""

from __future__ import annotations

from statistics import NormalDist

from tailorbird.domain.evidence import Metric
from tailorbird.foundations.measures import DIFFERENCES, UNBOUNDED, measure_of
from tailorbird.foundations.statistics import score_interval, wilson

#: Methods of metrics that were counted, not estimated: what they say holds at any confidence.
EXACT = frozenset({"count", "weights unchanged"})


def interval_at(metric: Metric, confidence: float, compared: str | None = None) -> tuple[float, float]:
    """The two-sided interval of ``metric`` at ``confidence``; of a difference, ``compared`` is the metric that differs.

    Proportions that carry their counts are recomputed exactly. Other Wilson intervals (clustered items) are re-solved at the effective
    number of items that their ends give away. Everything else is stretched around the value by the ratio of the normal quantiles, an
    approximation that is exact where the estimate is normal; shares stay within [0, 1], differences within what the metric allows, the rest
    above 0.
    """
    if metric.method in EXACT:
        return metric.low, metric.high
    if metric.hits is not None and metric.n:
        return wilson(metric.hits, metric.n, confidence)
    if confidence == metric.confidence:
        return metric.low, metric.high
    if metric.method.startswith("wilson"):
        return _wilson_again(metric, confidence)
    stretch = _quantile(confidence) / _quantile(metric.confidence)
    low = metric.value - stretch * (metric.value - metric.low)
    high = metric.value + stretch * (metric.high - metric.value)
    if metric.name in DIFFERENCES:
        most = measure_of(compared).highest if compared else 1.0
        return max(-most, low), min(most, high)
    return max(0.0, low), high if metric.name in UNBOUNDED else min(1.0, high)


def _wilson_again(metric: Metric, confidence: float) -> tuple[float, float]:
    """Each end L of Wilson's interval solves (p − L)² = z² L (1 − L) / n, so either end gives n back. Less than one item bounds nothing."""
    end = metric.low if metric.low < metric.value else metric.high
    distance = (metric.value - end) ** 2
    spread = _quantile(metric.confidence) ** 2 * end * (1 - end)
    # Nine digits are more than the ends carry; the rounding keeps one item from passing for a little less.
    size = round(spread / distance, 9) if distance else 0.0
    return score_interval(metric.value, size, confidence) if size >= 1 else (0.0, 1.0)


def _quantile(confidence: float) -> float:
    """The two-sided critical value of the normal distribution."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
