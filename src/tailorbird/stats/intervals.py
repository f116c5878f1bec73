"""Confidence intervals, paired tests, bootstrap, and items still needed.

Two ideas carry the file. Proportions get *score* intervals (Wilson; Tango for paired ones), because they hold at small samples and do not
collapse to a point when every item agrees. Where items share a group, the sample counts as fewer items: n / deff, with deff the ratio of
the cluster-robust variance to the independent one (``design_effect``), and the critical value is Student's with groups − 1 degrees of
freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tailorbird.domain.errors import InvalidInput
from tailorbird.stats.design_effect import worth

Interval: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]


def wilson(hits: int, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). Raises InvalidInput unless 0 ≤ hits ≤ n, n ≥ 1, 0 < confidence < 1."""
    _check_counts(hits, n)
    return _wilson(hits / n, n, _normal(confidence))


def score_interval(rate: float, size: float, confidence: float) -> Interval:
    """Wilson's interval of a rate in [0, 1] that rests on ``size`` (effective, possibly fractional) items.

    Raises InvalidInput as ``wilson``.
    """
    _check_counts(rate * size, size)
    return _wilson(rate, size, _normal(confidence))


def clopper_pearson(hits: int, n: int, confidence: float) -> Interval:
    """The exact interval of a proportion (Clopper & Pearson 1934): never covers less than stated. Raises as ``wilson``."""
    _check_counts(hits, n)
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def clustered_wilson(outcomes: Sequence[bool], groups: Sequence[str], confidence: float) -> Interval:
    """Wilson's interval where items share groups: at the items that they are worth (``clusters.worth``), with Student's critical value;
    plain where no group repeats."""
    values = np.asarray(outcomes, dtype=float)
    size, critical = _effective(values, groups, confidence)
    membership, count = _memberships(groups)
    if count < len(values):
        sizes_G, hits_G = np.bincount(membership).astype(float), np.bincount(membership, weights=values)
        squares = np.sum((hits_G - sizes_G * values.mean()) ** 2, keepdims=True)
        size = float(worth(np.array([values.mean()]), squares, sizes_G)[0])
    return _wilson(float(values.mean()), size, critical)


def mean_interval(scores: Sequence[float], groups: Sequence[str], confidence: float) -> Interval:
    """Interval of the mean of scores from 0 to 1: Wilson's, at the hits that the scores are worth (``clusters.worth``), with Student's
    critical value. Where all scores are alike: Wilson's, at the number of groups.

    A bootstrap sees only what was drawn: with few items and a mean near 1 its lower end errs up to twice as often as stated (decision
    0059). Raises InvalidInput on no items or a score outside [0, 1].
    """
    values = np.asarray(scores, dtype=float)
    membership, count = _memberships(groups)
    if len(values) != len(groups):
        raise InvalidInput(f"{len(values)} values, but {len(groups)} groups", "give the group of every item")
    if float(values.min()) < 0 or float(values.max()) > 1:
        raise InvalidInput("a score lies outside [0, 1]", "give scores between 0 and 1")
    mean = float(values.mean())
    if np.ptp(values) < 1e-9 or count == 1:
        return _wilson(mean, count, _normal(confidence))
    sums_G = np.bincount(membership, weights=values - mean)
    squares = max(float(np.sum(sums_G**2)), float(np.sum((values - mean) ** 2)))
    sizes_G = np.bincount(membership).astype(float)
    size = float(worth(np.array([mean]), np.array([squares]), sizes_G, of_scores=True)[0])
    _check_confidence(confidence)
    return _wilson(mean, size, float(special.stdtrit(count - 1, (1 + confidence) / 2)))


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact McNemar p-value: are ``wins`` and ``losses`` (discordant pairs) a fair coin's? 1.0 when there are none."""
    if min(wins, losses) < 0:
        raise InvalidInput("a number of pairs cannot be negative", "count wins and losses on paired items")
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


def paired_interval(differences: Sequence[float], groups: Sequence[str], confidence: float) -> Interval:
    """Interval of the mean of paired differences, each in [−1, 1]; ``groups[i]`` names the cluster of item i.

    Differences of −1, 0, 1 (right or wrong, paired) get Tango's score interval (Statistics in Medicine 17:891, 1998), at the effective
    number of items where groups repeat: it covers at small n and has width even when no pair disagrees (± z² / (n + z²)). Other differences
    get Student's interval with the cluster-robust standard error (Miller 2024, arXiv 2411.00640); if they are all equal, Wilson's on
    (d + 1) / 2, since no variable bounded in [0, 1] varies more than a coin of the same mean. Raises InvalidInput on no items or a
    difference outside [−1, 1].
    """
    values = np.asarray(differences, dtype=float)
    size, critical = _effective(values, groups, confidence)
    if bool(np.any(np.abs(values) > 1)):
        raise InvalidInput("a paired difference lies outside [-1, 1]", "compare scores between 0 and 1")
    mean = float(values.mean())
    if bool(np.all(np.isin(values, (-1.0, 0.0, 1.0)))):
        return _tango(float(np.mean(values > 0)), float(np.mean(values < 0)), size, critical)
    if np.ptp(values) == 0:
        low, high = _wilson((mean + 1) / 2, size, critical)
        return 2 * low - 1, 2 * high - 1
    low, high = student_interval(differences, groups, confidence)
    return max(-1.0, low), min(1.0, high)


def student_interval(values: Sequence[float], groups: Sequence[str], confidence: float) -> Interval:
    """Student's interval of the mean of values without bounds, with the cluster-robust standard error where that is larger than the
    independent one. A point where all values are equal: the caller must know a bound for that case. Raises InvalidInput on no items."""
    array = np.asarray(values, dtype=float)
    membership, count = _memberships(groups)
    _check_confidence(confidence)
    mean = float(array.mean())
    error = math.sqrt(max(_clustered_variance(array, membership, count), _independent_variance(array)))
    half = float(special.stdtrit(max(1, count - 1), (1 + confidence) / 2)) * error
    return mean - half, mean + half


def never_differing(size: float, confidence: float, groups: int | None = None) -> float:
    """The half width of the interval of a difference of two candidates that never differ on ``size`` (effective) items: z² / (n + z²).

    It is the end of Tango's interval without a discordant pair, and so the smallest margin within which a tie can be proven. ``groups``
    is the number of groups that the items fall into where any share one: the critical value is Student's then.
    """
    _check_counts(0, size)
    critical = _normal(confidence) if groups is None else float(special.stdtrit(max(1, groups - 1), (1 + confidence) / 2))
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


def unpaired_interval(upper: tuple[int, int], lower: tuple[int, int], confidence: float) -> Interval:
    """Interval of the difference of two independent proportions, each (hits, n): Newcombe's hybrid of Wilson's intervals (Statistics in
    Medicine 17:873, 1998, method 10). For candidates that were not measured on the same items; wider than a paired one. Raises as
    ``wilson``.
    """
    (one, n), (other, m) = upper, lower
    difference = one / n - other / m
    (low, high), (below, above) = wilson(one, n, confidence), wilson(other, m, confidence)
    down = math.hypot(one / n - low, above - other / m)
    up = math.hypot(high - one / n, other / m - below)
    return difference - down, difference + up


@dataclass(frozen=True)
class Resampled:
    """A bootstrap interval; ``undefined`` is the share of draws without a value, ``alike`` whether no draw differed."""

    low: float
    high: float
    undefined: float
    alike: bool


def bootstrap_bca(
    statistic: Callable[[Floats], float], groups: Sequence[str], confidence: float, seed: int, resamples: int = 2000
) -> Interval:
    """Bias-corrected, accelerated bootstrap interval (Efron 1987) of ``statistic`` over whole groups.

    ``statistic`` maps item weights (float64, one per entry of ``groups``; how often the item was drawn) to a number, and may give NaN on a
    draw where it is undefined (such draws are left out). The acceleration comes from the jackknife over groups. The interval collapses to
    a point when no draw differs: the caller must know a bound for that case. Raises InvalidInput on no items.
    """
    found = resample(statistic, groups, confidence, seed, resamples)
    return found.low, found.high


def resample(statistic: Callable[[Floats], float], groups: Sequence[str], confidence: float, seed: int, resamples: int = 2000) -> Resampled:
    """The interval of ``bootstrap_bca``, with what became of the draws. Raises as that."""
    membership, count = _memberships(groups)
    _check_confidence(confidence)
    observed = statistic(np.ones(len(groups)))
    generator = np.random.default_rng(seed)
    drawn = np.array([statistic(_draw(generator, count)[membership]) for _ in range(resamples)])
    draws = drawn[np.isfinite(drawn)]
    undefined = 1 - draws.size / drawn.size
    if draws.size == 0 or np.ptp(draws) == 0:
        return Resampled(observed, observed, undefined, alike=True)
    below = (np.sum(draws < observed) + 0.5 * np.sum(draws == observed)) / draws.size
    bias = float(special.ndtri(np.clip(below, 0.5 / draws.size, 1 - 0.5 / draws.size)))
    acceleration = _acceleration(statistic, membership, count)
    tails = special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    # Beyond the pole of the correction an end is the farthest draw on its side.
    rest = np.maximum(1 - acceleration * (bias + tails), 1e-12)
    levels = special.ndtr(bias + (bias + tails) / rest)
    low, high = np.quantile(draws, np.clip(levels, 0, 1))
    return Resampled(float(low), float(high), undefined, alike=False)


def _binomial_quantile(level: float, size: int, share: float) -> int:
    """The fewest successes of ``size`` whose cumulative probability reaches ``level``."""
    return int(np.searchsorted(special.bdtr(np.arange(size + 1), size, share), level))


def quantile_interval(values: Sequence[float], share: float, confidence: float) -> Interval | None:
    """Distribution-free interval of a quantile from order statistics (Hahn & Meeker 1991). None where too few values bound it."""
    ordered = np.sort(np.asarray(values, dtype=float))
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    below = _binomial_quantile(tail, ordered.size, share)
    above = _binomial_quantile(1 - tail, ordered.size, share)
    if above >= ordered.size or below < 1:
        return None
    return float(ordered[below - 1]), float(ordered[above])


def items_needed_for_proportion(hits: int, n: int, target: float, confidence: float) -> int | None:
    """How many more items would settle whether the rate reaches ``target``, if the observed rate holds; 0 when it is settled.

    Wilson's interval inverts the score test, so that its end meets the target where N = z² t (1 − t) / (p − t)². None when the observed
    rate is the target itself: no number of items settles that.
    """
    _check_counts(hits, n)
    gap = hits / n - target
    if gap == 0:
        return None
    z = _normal(confidence)
    return max(0, math.ceil(z * z * target * (1 - target) / (gap * gap)) - n)


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


def smallest_passing(n: int, target: float, confidence: float) -> int | None:
    """The fewest hits out of ``n`` whose Wilson lower bound reaches ``target``; None when even ``n`` hits do not."""
    if n < 1 or wilson(n, n, confidence)[0] < target:
        return None
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if wilson(middle, n, confidence)[0] >= target:
            high = middle
        else:
            low = middle + 1
    return low


def spend(confidence: float, look: int) -> float:
    """The confidence that look ``look`` (1-based) must meet, so that all looks together err no more often than 1 − ``confidence``.

    The error budget α is split as α_k = α · 6 / (π² k²), which sums to α over endless looks (Bonferroni over the Basel series): no number
    of looks need be fixed beforehand, and the first ones cost least.
    """
    _check_confidence(confidence)
    if look < 1:
        raise InvalidInput(f"look {look} does not exist", "count looks from 1")
    return 1 - (1 - confidence) * 6 / (math.pi * math.pi * look * look)


def _check_counts(hits: float, n: float) -> None:
    if not 0 <= hits <= n or n < 1:
        raise InvalidInput(f"{hits} hits of {n} items is no proportion", "give 0 <= hits <= n and n >= 1")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence} is not between 0 and 1", "give a share such as 0.9")


def _normal(confidence: float) -> float:
    """The two-sided critical value of the normal distribution."""
    _check_confidence(confidence)
    return float(special.ndtri((1 + confidence) / 2))


def _wilson(rate: float, size: float, critical: float) -> Interval:
    weight = critical * critical / size
    centre = (rate + weight / 2) / (1 + weight)
    half = critical * math.sqrt(rate * (1 - rate) / size + weight / (4 * size)) / (1 + weight)
    # The ends at 0 and 1 are exact in theory; rounding must not move them.
    return (0.0 if rate == 0 else max(0.0, centre - half)), (1.0 if rate == 1 else min(1.0, centre + half))


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


def _effective(values: Floats, groups: Sequence[str], confidence: float) -> tuple[float, float]:
    """How many independent items ``values`` are worth, and the critical value that goes with them."""
    if len(values) != len(groups):
        raise InvalidInput(f"{len(values)} values, but {len(groups)} groups", "give the group of every item")
    membership, count = _memberships(groups)
    if count == len(values):
        return float(count), _normal(confidence)
    _check_confidence(confidence)
    critical = float(special.stdtrit(max(1, count - 1), (1 + confidence) / 2))
    independent = _independent_variance(values)
    if independent == 0 or count == 1:
        return float(count), critical  # No variance to learn from: as if each group were one item.
    deff = max(1.0, _clustered_variance(values, membership, count) / independent)
    return len(values) / deff, critical


def _independent_variance(values: Floats) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _clustered_variance(values: Floats, membership: NDArray[np.intp], count: int) -> float:
    """Variance of the mean when items of a group may move together (sandwich, with the G / (G − 1) correction)."""
    if count < 2:
        return 0.0
    sums = np.bincount(membership, weights=values - values.mean(), minlength=count)
    return float(np.sum(sums * sums)) / len(values) ** 2 * count / (count - 1)


def _memberships(groups: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """For each item the number of its group, and how many groups there are."""
    if not groups:
        raise InvalidInput("no items to measure", "give at least one item")
    names, membership = np.unique(np.asarray(groups), return_inverse=True)
    return membership.astype(np.intp), len(names)


def _draw(generator: np.random.Generator, count: int) -> Floats:
    """How often each of ``count`` groups comes up in ``count`` draws with replacement."""
    return np.bincount(generator.integers(0, count, count), minlength=count).astype(float)


def _acceleration(statistic: Callable[[Floats], float], membership: NDArray[np.intp], count: int) -> float:
    left_out = np.array([statistic((membership != group).astype(float)) for group in range(count)])
    left_out = left_out[np.isfinite(left_out)]
    away = left_out.mean() - left_out if left_out.size else left_out
    spread = float(np.sum(away**2)) ** 1.5
    return float(np.sum(away**3)) / (6 * spread) if spread > 0 else 0.0
