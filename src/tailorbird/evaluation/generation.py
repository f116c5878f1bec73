"""Metrics of generated answers.

In: item results. Out: exact match and token F1. Must not know: engines, other tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.spec import MeasureSpec, average, proportion
from tailorbird.foundations.statistics import score_interval
from tailorbird.foundations.text import normalise


def generation_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics of generated answers. Both compare texts after ``normalise`` (case, white space and Unicode forms do not count)."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    groups = [item.group for item in items]
    overlap = average("token_f1", [token_f1(item.prediction, item.target) for item in items], groups, spec)
    yield overlap if overlap.low < overlap.high else _without_spread(overlap, len(set(groups)))


def token_f1(answer: str, target: str) -> float:
    """F1 of the words that answer and target share, counted as bags (Rajpurkar 2016, SQuAD); 1 when both are empty."""
    given, wanted = Counter(normalise(answer).split()), Counter(normalise(target).split())
    if not given and not wanted:
        return 1.0
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def _without_spread(metric: Metric, groups: int) -> Metric:
    """A bound where all answers score alike: no score in [0, 1] varies more than a coin of the same mean, so Wilson's holds."""
    low, high = score_interval(metric.value, groups, metric.confidence)
    return metric.model_copy(update={"low": low, "high": high, "method": "wilson"})
