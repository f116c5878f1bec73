"""How far a model's probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.breakdown import Bin
from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.measure_spec import MeasureSpec, average, bootstrapped
from tailorbird.stats.intervals import Floats, score_interval

#: Items in a bin at least, and bins at most.
_FEWEST, _MOST_BINS = 20, 15
#: Items below which the calibration error is undefined: two bins.
LEAST_ITEMS = 2 * _FEWEST


def calibration_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """``brier`` and ``ece`` where every item has probabilities; ``ece`` only where two bins can be filled."""
    briers = [item.scores["brier"] for item in items if "brier" in item.scores]
    if len(briers) == len(items) > 1:
        yield average("brier", briers, [item.group for item in items], spec)
    if len(items) >= LEAST_ITEMS and all(item.confidence is not None for item in items):
        yield _ece(items, spec)


def reliability(items: Sequence[ItemResult]) -> tuple[Bin, ...]:
    """Bins of equal mass, least sure first; empty where some item has no probability."""
    if not items or any(item.confidence is None for item in items):
        return ()
    bins = _bins(items)
    said, right = _said(items), np.array([item.correct for item in items], dtype=float)
    return tuple(
        Bin(n=int(np.sum(bins == k)), said=float(said[bins == k].mean()), right=float(right[bins == k].mean()))
        for k in range(bins.max() + 1)
    )


def _ece(items: Sequence[ItemResult], spec: MeasureSpec) -> Metric:
    """Expected calibration error over bins of equal mass (Nguyen & O'Connor 2015): the mean distance between what the model said and what
    came true. Sampling alone makes it larger than it is, never smaller, so that an upper bound on it errs on the safe side."""
    groups = [item.group for item in items]
    metric = bootstrapped("ece", ece_over(items), groups, spec)
    if metric.low < metric.high:
        return metric
    low, high = score_interval(metric.value, len(set(groups)), metric.confidence)
    return metric.model_copy(update={"low": low, "high": high, "method": "wilson"})


def ece_over(items: Sequence[ItemResult]) -> Callable[[Floats], float]:
    """The calibration error as a function of item weights; every item has a probability. The bins are those of the items as they are."""
    bins, gaps = _bins(items), _said(items) - np.array([item.correct for item in items], dtype=float)
    count = int(bins.max()) + 1

    def ece(weights: Floats) -> float:
        return float(np.abs(np.bincount(bins, weights=weights * gaps, minlength=count)).sum() / weights.sum())

    return ece


def _said(items: Sequence[ItemResult]) -> Floats:
    return np.array([item.confidence for item in items], dtype=float)


def _bins(items: Sequence[ItemResult]) -> NDArray[np.intp]:
    """The bin of each item: by rank of its probability, items of one name order breaking ties, so that nothing depends on their order."""
    order = sorted(range(len(items)), key=lambda place: (items[place].confidence, items[place].item))
    count = max(1, min(_MOST_BINS, len(items) // _FEWEST))
    bins = np.empty(len(items), dtype=np.intp)
    bins[order] = np.arange(len(items)) * count // len(items)
    return bins
