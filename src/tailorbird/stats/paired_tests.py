"""Paired comparisons: exact McNemar test, intervals of paired and unpaired differences, and the items that would settle them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from tailorbird.domain.errors import InvalidInput
from tailorbird.stats.intervals import Interval, check_counts, effective_size, normal_quantile, student_interval, wilson_bounds


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact McNemar p-value: are ``wins`` and ``losses`` (discordant pairs) a fair coin's? 1.0 when there are none."""
    if min(wins, losses) < 0:
        raise InvalidInput("a number of pairs cannot be negative", "count wins and losses on paired items")
    return min(1.0, 2 * float(scipy.special.bdtr(min(wins, losses), wins + losses, 0.5)))


def paired_interval(differences: Sequence[float], groups: Sequence[str], confidence: float) -> Interval:
    """Interval of the mean of paired differences, each in [−1, 1]; ``groups[i]`` names the cluster of item i.

    Differences of −1, 0, 1 (right or wrong, paired) get Tango's score interval (Statistics in Medicine 17:891, 1998), at the effective
    number of items where groups repeat: it covers at small n and has width even when no pair disagrees (± z² / (n + z²)). Other differences
    get Student's interval with the cluster-robust standard error (Miller 2024, arXiv 2411.00640); if they are all equal, Wilson's on
    (d + 1) / 2, since no variable bounded in [0, 1] varies more than a coin of the same mean. Raises InvalidInput on no items or a
    difference outside [−1, 1].
    """
    values = np.asarray(differences, dtype=float)
    size, critical = effective_size(values, groups, confidence)
    if bool(np.any(np.abs(values) > 1)):
        raise InvalidInput("a paired difference lies outside [-1, 1]", "compare scores between 0 and 1")
    mean = float(values.mean())
    if bool(np.all(np.isin(values, (-1.0, 0.0, 1.0)))):
        return _tango(float(np.mean(values > 0)), float(np.mean(values < 0)), size, critical)
    if np.ptp(values) == 0:
        low, high = wilson_bounds((mean + 1) / 2, size, critical)
        return 2 * low - 1, 2 * high - 1
    low, high = student_interval(differences, groups, confidence)
    return max(-1.0, low), min(1.0, high)


def never_differing(size: float, confidence: float, groups: int | None = None) -> float:
    """The half width of the interval of a difference of two candidates that never differ on ``size`` (effective) items: z² / (n + z²).

    It is the end of Tango's interval without a discordant pair, and so the smallest margin within which a tie can be proven. ``groups``
    is the number of groups that the items fall into where any share one: the critical value is Student's then.
    """
    check_counts(0, size)
    critical = normal_quantile(confidence) if groups is None else float(scipy.special.stdtrit(max(1, groups - 1), (1 + confidence) / 2))
    return critical * critical / (size + critical * critical)


def disagreeing(disagreement: float, size: float, confidence: float, groups: int | None = None) -> float:
    """The half width of the interval of a difference of two equally good candidates that come out differently on a share of ``size``
    (effective) items, as often in the favour of one as of the other: Tango's, about z √(disagreement / n). ``groups`` as in
    ``never_differing``, which it never falls below."""
    least = never_differing(size, confidence, groups)
    critical = math.sqrt(least * size / (1 - least))
    return max(least, -_tango_low(disagreement / 2, disagreement / 2, size, critical))


def items_for_margin(disagreement: float, margin: float, confidence: float) -> int | None:
    """The independent items from which on ``disagreeing`` stays within ``margin``; None where a million do not do."""
    low, high = 1, 1_000_000
    if disagreeing(disagreement, high, confidence) > margin:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if disagreeing(disagreement, middle, confidence) <= margin else (middle + 1, high)
    return high


def items_needed_for_difference(difference: float, interval: Interval, n: int, margin: float) -> int | None:
    """How many more items would put ``interval`` clear of, or inside, ± ``margin``, if the observed difference holds; 0 when it is settled.

    Widths shrink with the root of the number of items. None when the difference stands on the margin itself.
    """
    low, high = interval
    if abs(difference) == margin:
        return None
    if difference > margin:
        ratio = (difference - low) / (difference - margin)
    elif difference < -margin:
        ratio = (high - difference) / (-margin - difference)
    else:
        ratio = max((high - difference) / (margin - difference), (difference - low) / (difference + margin))
    return max(0, math.ceil(n * ratio * ratio) - n) if ratio > 1 else 0


def _tango(wins: float, losses: float, size: float, critical: float) -> Interval:
    """Tango's interval from the shares of wins and losses; the upper end is the lower end of the mirrored problem."""
    return _tango_low(wins, losses, size, critical), -_tango_low(losses, wins, size, critical)


def _tango_low(wins: float, losses: float, size: float, critical: float) -> float:
    difference = wins - losses
    from scipy.optimize import brentq  # here, because it is slow to import and seldom needed

    if difference <= -1:
        return -1.0

    def excess(delta: float) -> float:
        # The share of losses most likely under a true difference of delta (Tango's equation 4, divided by n).
        b = -wins - losses + (2 - wins + losses) * delta
        c = -losses * delta * (1 - delta)
        lost = (math.sqrt(max(0.0, b * b - 8 * c)) - b) / 4
        variance = max(0.0, 2 * lost + delta * (1 - delta))
        return difference - delta - critical * math.sqrt(variance / size)

    # The excess is positive at -1 and negative just below the observed difference (at it, it is zero too when no pair disagrees).
    top = difference - 1e-10
    return float(brentq(excess, -1.0, top)) if excess(top) < 0 else difference
