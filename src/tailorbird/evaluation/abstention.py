"""Leaving items to people: the threshold, what it costs in coverage, and what it buys in errors.

An answer is given when its probability reaches the threshold, else the item is *referred*. Coverage is the share of items that are
answered, selective risk the share of wrong answers among those (El-Yaniv & Wiener 2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailorbird.domain.breakdown import Referred
from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.measure_spec import MeasureSpec, proportion
from tailorbird.stats.intervals import clustered_wilson

#: Thresholds that are looked at. Two digits: a finer one would follow the noise of dev, and would not come out alike twice.
GRID = tuple(step / 100 for step in range(100))


def calibrated(items: Sequence[ItemResult], max_error: float, confidence: float) -> float:
    """The smallest threshold of ``GRID`` at which the upper end of the share of wrong answers stays within ``max_error``; where there is
    none, the one at which it comes nearest.

    The choice is made on dev, and the sealed test judges it: no correction for the number of thresholds is needed here.
    """
    points = [point for point in curve(items, confidence) if point.risk_high is not None]
    within = [point.refer_below for point in points if point.risk_high is not None and point.risk_high <= max_error]
    return within[0] if within else min(points, key=lambda point: (point.risk_high or 0.0, point.refer_below)).refer_below


def curve(items: Sequence[ItemResult], confidence: float) -> Iterator[Referred]:
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
    yield proportion("coverage", items, [item.item in kept for item in items], spec)
    if given:
        yield proportion("selective_risk", given, [not item.correct for item in given], spec)


def _point(threshold: float, given: Sequence[ItemResult], n: int, confidence: float) -> Referred:
    if not given:
        return Referred(refer_below=threshold, coverage=0.0, risk=None, risk_high=None)
    wrong = [not item.correct for item in given]
    high = clustered_wilson(wrong, [item.group for item in given], confidence)[1]
    return Referred(refer_below=threshold, coverage=len(given) / n, risk=sum(wrong) / len(given), risk_high=high)
