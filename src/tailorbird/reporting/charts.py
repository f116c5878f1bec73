"""Positions in the charts of an evidence page: intervals with their bounds, referral and reliability curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.evidence import Breakdown, Finding, Retention

#: Share of the box that is kept free at both ends of an interval.
_MARGIN = 0.04


@dataclass(frozen=True)
class IntervalMark:
    """An interval with its value and the bound that it is judged by."""

    low: float
    high: float
    value: float
    bound: float


@dataclass(frozen=True)
class CurveLine:
    """A line through points, as SVG takes it, and the words at its ends."""

    points: str
    band: str
    at: tuple[float, float] | None
    top: float


def finding(found: Finding) -> IntervalMark | None:
    """A finding's interval and bound on a line of their own. None where nothing was measured."""
    if found.value is None or found.low is None or found.high is None:
        return None
    places = (found.low, found.high, found.value, found.bound)
    low, high = min(places), max(places)
    if high == low:
        return IntervalMark(50, 50, 50, 50)
    span = (high - low) * (1 + 2 * _MARGIN)
    start = low - (high - low) * _MARGIN
    return IntervalMark(*(100 * (place - start) / span for place in places))


def curve(found: Breakdown, refer_below: float | None) -> CurveLine | None:
    """Share of wrong answers over share answered, from all to few; its upper bound as a band."""
    points = [point for point in found.referral if point.risk is not None and point.risk_high is not None]
    if len(points) < 3:
        return None
    top = max(0.05, max(min(1.0, point.risk_high or 0.0) for point in points if point.coverage >= 0.1))
    line = [(100 * point.coverage, _height(point.risk or 0.0, top)) for point in points]
    upper = [(100 * point.coverage, _height(point.risk_high or 0.0, top)) for point in points]
    # The curve holds one point a step: the threshold stands on the last one that it reaches.
    reached = [place for point, place in zip(points, line, strict=True) if refer_below is not None and point.refer_below <= refer_below]
    return CurveLine(_points(line), _points([*line, *reversed(upper)]), reached[-1] if reached else None, top)


def reliability(found: Breakdown) -> CurveLine | None:
    """How often answers were right over how sure the model said it was."""
    if len(found.reliability) < 2:
        return None
    return CurveLine(_points([(100 * one.said, 100 - 100 * one.right) for one in found.reliability]), "", None, 1.0)


def drops(found: Retention) -> list[tuple[str, IntervalMark]]:
    """Each family's drop with its interval, around no change at all."""
    parts = (*found.families, found.overall)
    reach = max(0.02, *(max(abs(one.low), abs(one.high)) for one in parts)) * 1.05

    def place(value: float) -> float:
        return 50 + 50 * value / reach

    return [(one.family, IntervalMark(place(one.low), place(one.high), place(one.drop), 50)) for one in parts]


def _height(share: float, top: float) -> float:
    return 100 - 100 * min(share, top) / top


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
