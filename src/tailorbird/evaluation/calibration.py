"""Calibration of probabilities, and abstention: the referral threshold, its coverage and its risk.

An answer is given when its probability reaches the threshold, else the item is *referred*. Coverage is the share of items that are
answered, selective risk the share of wrong answers among those (El-Yaniv & Wiener 2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.evidence import Bin, ItemResult, Metric, Referred
from tailorbird.evaluation.measure_spec import MeasureSpec, bootstrapped, proportion
from tailorbird.stats.intervals import Floats, Statistic, clustered_wilson, score_interval
from tailorbird.stats.label_sums import sums_by

#: Items in a bin at least, and bins at most.
_FEWEST, _MOST_BINS = 20, 15
#: Items below which the calibration error is undefined: two bins.
LEAST_ITEMS = 2 * _FEWEST


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


def ece_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """``ece``, where every item has a probability and two bins can be filled: the expected calibration error over bins of equal mass
    (Nguyen & O'Connor 2015), the mean distance between what the model said and what came true. Sampling alone makes it larger than it is,
    never smaller, so that an upper bound on it errs on the safe side."""
    if len(items) < LEAST_ITEMS or any(item.confidence is None for item in items):
        return
    groups = [item.group for item in items]
    metric = bootstrapped("ece", ece_over(items), groups, spec)
    if metric.low < metric.high:
        yield metric
    else:
        low, high = score_interval(metric.value, len(set(groups)), metric.confidence)
        yield metric.model_copy(update={"low": low, "high": high, "method": "wilson"})


def ece_over(items: Sequence[ItemResult]) -> Statistic:
    """The calibration error as a function of item weights; every item has a probability. The bins are those of the items as they are."""
    bins, gaps = _bins(items), _said(items) - np.array([item.correct for item in items], dtype=float)
    by_bin = sums_by(bins, int(bins.max()) + 1)

    def ece(weights_BN: Floats) -> Floats:
        found_B: Floats = np.abs(by_bin(weights_BN * gaps)).sum(axis=1) / weights_BN.sum(axis=1)
        return found_B

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


#: Thresholds that are looked at. Two digits: a finer one would follow the noise of dev, and would not come out alike twice.
GRID = tuple(step / 100 for step in range(100))


def referral_threshold(items: Sequence[ItemResult], max_error: float, confidence: float) -> float:
    """The smallest threshold of ``GRID`` at which the upper end of the share of wrong answers stays within ``max_error``; where there is
    none, the one at which it comes nearest.

    The choice is made on dev, and the sealed test judges it: no correction for the number of thresholds is needed here.
    """
    points = [point for point in risk_coverage_curve(items, confidence) if point.risk_high is not None]
    within = [point.refer_below for point in points if point.risk_high is not None and point.risk_high <= max_error]
    return within[0] if within else min(points, key=lambda point: (point.risk_high or 0.0, point.refer_below)).refer_below


def risk_coverage_curve(items: Sequence[ItemResult], confidence: float) -> Iterator[Referred]:
    """Coverage and risk at each threshold of ``GRID`` at which fewer items are answered than at the one before."""
    before = -1
    for threshold in GRID:
        given = answered(items, threshold)
        if len(given) != before:
            yield _point(threshold, given, len(items), confidence)
        before = len(given)


def answered(items: Sequence[ItemResult], refer_below: float) -> list[ItemResult]:
    """The items that are not referred; one without a probability is referred."""
    return [item for item in items if item.confidence is not None and item.confidence >= refer_below]


def abstention_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """``coverage``, and ``selective_risk`` where anything is answered; neither where nothing is to be referred."""
    if spec.refer_below is None:
        return
    given = answered(items, spec.refer_below)
    kept = {item.item for item in given}
    yield proportion("coverage", [item.item in kept for item in items], [item.group for item in items], spec)
    if given:
        yield proportion("selective_risk", [not item.correct for item in given], [item.group for item in given], spec)


def _point(threshold: float, given: Sequence[ItemResult], n: int, confidence: float) -> Referred:
    if not given:
        return Referred(refer_below=threshold, coverage=0.0, risk=None, risk_high=None)
    wrong = [not item.correct for item in given]
    high = clustered_wilson(wrong, [item.group for item in given], confidence)[1]
    return Referred(refer_below=threshold, coverage=len(given) / n, risk=sum(wrong) / len(given), risk_high=high)
