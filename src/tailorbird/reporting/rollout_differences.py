"""Differences of a rollout's arms, for people."""

from __future__ import annotations

import math

from tailorbird.domain.rollout import GuardName
from tailorbird.reporting.number_formats import NOTHING


def difference_range(guard: GuardName, low: float | None, high: float | None) -> str:
    """The ends of the confidence sequence for release less release before, which holds at every look: ``-0.52 to +1.31 points`` of a
    share, ``-8 % to +12 %`` of latency and cost, ``-0.031 to +0.012`` of feedback; a dash where too few units were counted."""
    if low is None or high is None:
        return NOTHING
    if guard in (GuardName.LATENCY, GuardName.COST):
        return f"{100 * math.expm1(low):+.0f} % to {100 * math.expm1(high):+.0f} %"
    if guard is GuardName.FEEDBACK:
        return f"{low:+.3f} to {high:+.3f}"
    return f"{100 * low:+.2f} to {100 * high:+.2f} points"
