"""Metrics of generated answers.

In: item results. Out: exact match and token F1. Must not know: engines, other tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.spec import MeasureSpec, average, proportion
from tailorbird.foundations.overlap import token_f1
from tailorbird.foundations.statistics import score_interval


def generation_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics of generated answers. Both compare texts after ``normalise`` (case, white space and Unicode forms do not count)."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    groups = [item.group for item in items]
    overlap = average("token_f1", [token_f1(item.prediction, item.target) for item in items], groups, spec)
    yield overlap if overlap.low < overlap.high else _without_spread(overlap, len(set(groups)))


def _without_spread(metric: Metric, groups: int) -> Metric:
    """A bound where all answers score alike: no score in [0, 1] varies more than a coin of the same mean, so Wilson's holds."""
    low, high = score_interval(metric.value, groups, metric.confidence)
    return metric.model_copy(update={"low": low, "high": high, "method": "wilson"})
