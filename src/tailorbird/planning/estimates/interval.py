"""Three numbers as an estimate."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.plan import Estimate


def interval(values: Sequence[float], unit: str) -> Estimate:
    """``values`` are low, likely, high."""
    low, likely, high = values
    return Estimate(low=min(low, likely), likely=likely, high=max(high, likely), unit=unit)


def around(likely: float, spread: tuple[float, float], unit: str) -> Estimate:
    """``spread`` are the factors of the low and the high end."""
    return interval((likely * spread[0], likely, likely * spread[1]), unit)


def total(*parts: Estimate) -> Estimate:
    """The sum of estimates in one unit, ends added to ends."""
    return interval((sum(p.low for p in parts), sum(p.likely for p in parts), sum(p.high for p in parts)), parts[0].unit)
