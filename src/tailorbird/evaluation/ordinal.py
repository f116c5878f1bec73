"""Metrics of labels that are levels: by how many an answer is off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.measure_spec import MeasureSpec, proportion, share_like


def ordinal_scores(answer: str, target: str, order: Sequence[str]) -> dict[str, float]:
    """Scores of one item, none where there is no order. ``ordinal_score`` is 1 for the right level and 0 for one at the other end of
    ``order``, in steps of one level: 1 - |a - t| / (K - 1), whose mean is 1 less the mean absolute error over its range. An answer that is
    no level is as wrong as can be.
    """
    if len(order) < 2:
        return {}
    level = {name: place for place, name in enumerate(order)}
    if answer not in level or target not in level:
        return {"ordinal_score": 0.0, "within_one": 0.0}
    off = abs(level[answer] - level[target])
    return {"ordinal_score": 1 - off / (len(order) - 1), "within_one": float(off <= 1)}


def ordinal_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Both metrics, where the labels have an order and every item was scored by it."""
    if not spec.order or not all("ordinal_score" in item.scores for item in items):
        return
    yield share_like("ordinal_score", [item.scores["ordinal_score"] for item in items], [item.group for item in items], spec)
    yield proportion("within_one", items, [item.scores["within_one"] > 0 for item in items], spec)
