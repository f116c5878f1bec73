"""How much worse a candidate is where the data have shifted."""

from __future__ import annotations

import math

from tailorbird.domain.evidence import Metric
from tailorbird.stats.metric_direction import lower_is_better


def drop_between(usual: Metric, shifted: Metric) -> Metric:
    """How much worse ``shifted`` is than ``usual``, in the metric's unit; below 0 where it is better.

    The items are other ones, so nothing is paired. The interval is put together from the two intervals as Newcombe's for two proportions is
    (MOVER: Zou and Donner 2008, Statistics in Medicine 27:1693), whatever method gave them; it is cautious where groups have items on both
    sides.
    """
    worse, better = (usual, shifted) if not lower_is_better(usual.name) else (shifted, usual)
    value = worse.value - better.value
    down = math.hypot(worse.value - worse.low, better.high - better.value)
    up = math.hypot(worse.high - worse.value, better.value - better.low)
    return Metric(name="shift", value=value, low=value - down, high=value + up, confidence=usual.confidence, n=shifted.n, method="mover")
