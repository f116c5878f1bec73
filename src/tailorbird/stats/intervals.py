"""Confidence intervals: proportions, means, clustered samples, bootstrap; and items still needed for a proportion.

Two ideas carry the file. Proportions get *score* intervals (Wilson; Tango for paired ones), because they hold at small samples and do not
collapse to a point when every item agrees. Where items share a group, the sample counts as fewer items: n / deff, with deff the ratio of
the cluster-robust variance to the independent one (``design_effect``), and the critical value is Student's with groups − 1 degrees of
freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from tailorbird.domain.errors import InvalidInput
from tailorbird.stats.design_effect import worth

Interval: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]
#: A number (B) for each row of item weights (BN; how often the item was drawn); NaN where it is undefined for them.
Statistic: TypeAlias = Callable[[Floats], Floats]
#: Numbers of draws that are kept at most: 8 MB. As many weights are laid out at a time: 16 MB.
_MOST_KEPT = 2**21


def wilson(hits: int, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). Raises InvalidInput unless 0 ≤ hits ≤ n, n ≥ 1, 0 < confidence < 1."""
    check_counts(hits, n)
    return wilson_bounds(hits / n, n, normal_quantile(confidence))


def score_interval(rate: float, size: float, confidence: float) -> Interval:
    """Wilson's interval of a rate in [0, 1] that rests on ``size`` (effective, possibly fractional) items.

    Raises InvalidInput as ``wilson``.
    """
    check_counts(rate * size, size)
    return wilson_bounds(rate, size, normal_quantile(confidence))


def clopper_pearson(hits: int, n: int, confidence: float) -> Interval:
    """The exact interval of a proportion (Clopper & Pearson 1934): never covers less than stated. Raises as ``wilson``."""
    check_counts(hits, n)
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    low = float(scipy.special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(scipy.special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def clustered_wilson(outcomes: Sequence[bool], groups: Sequence[str], confidence: float) -> Interval:
    """Wilson's interval where items share groups: at the items that they are worth (``items_worth``), with Student's critical value;
    plain where no group repeats."""
    values = np.asarray(outcomes, dtype=float)
    _, critical = effective_size(values, groups, confidence)
    return wilson_bounds(float(values.mean()), items_worth(outcomes, groups), critical)


def items_worth(outcomes: Sequence[bool], groups: Sequence[str]) -> float:
    """How many independent items ``outcomes`` are worth (``design_effect.worth``): all of them where no group repeats, one where there is
    one group. Raises InvalidInput on no items."""
    values = np.asarray(outcomes, dtype=float)
    membership, count = _memberships(groups)
    if count == len(values):
        return float(count)
    sizes_G, hits_G = np.bincount(membership).astype(float), np.bincount(membership, weights=values)
    squares = np.sum((hits_G - sizes_G * values.mean()) ** 2, keepdims=True)
    return float(worth(np.array([values.mean()]), squares, sizes_G)[0])


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
        return wilson_bounds(mean, count, normal_quantile(confidence))
    sums_G = np.bincount(membership, weights=values - mean)
    squares = max(float(np.sum(sums_G**2)), float(np.sum((values - mean) ** 2)))
    sizes_G = np.bincount(membership).astype(float)
    size = float(worth(np.array([mean]), np.array([squares]), sizes_G, of_scores=True)[0])
    _check_confidence(confidence)
    return wilson_bounds(mean, size, float(scipy.special.stdtrit(count - 1, (1 + confidence) / 2)))


def student_interval(values: Sequence[float], groups: Sequence[str], confidence: float) -> Interval:
    """Student's interval of the mean of values without bounds, with the cluster-robust standard error where that is larger than the
    independent one. A point where all values are equal: the caller must know a bound for that case. Raises InvalidInput on no items."""
    array = np.asarray(values, dtype=float)
    membership, count = _memberships(groups)
    _check_confidence(confidence)
    mean = float(array.mean())
    error = math.sqrt(max(_clustered_variance(array, membership, count), _independent_variance(array)))
    half = float(scipy.special.stdtrit(max(1, count - 1), (1 + confidence) / 2)) * error
    return mean - half, mean + half


@dataclass(frozen=True)
class Resampled:
    """A bootstrap interval; ``undefined`` is the share of draws without a value, ``alike`` whether no draw differed."""

    low: float
    high: float
    undefined: float
    alike: bool


def bootstrap_bca(statistic: Statistic, groups: Sequence[str], confidence: float, seed: int, resamples: int = 2000) -> Interval:
    """Bias-corrected, accelerated bootstrap interval (Efron 1987) of ``statistic`` over whole groups.

    ``groups`` has the group of each item. Draws on which the statistic is undefined are left out. The acceleration comes from the
    jackknife over groups. The interval collapses to a point when no draw differs: the caller must know a bound for that case. Raises
    InvalidInput on no items.
    """
    found = resample(statistic, groups, confidence, seed, resamples)
    return found.low, found.high


def observed(statistic: Statistic, items: int) -> float:
    """``statistic`` of all ``items`` as they are, once each."""
    return float(statistic(np.ones((1, items)))[0])


def resample(statistic: Statistic, groups: Sequence[str], confidence: float, seed: int, resamples: int = 2000) -> Resampled:
    """The interval of ``bootstrap_bca``, with what became of the draws. Raises as that."""
    membership, count = _memberships(groups)
    _check_confidence(confidence)
    value = observed(statistic, len(groups))
    drawn = np.concatenate([statistic(weights_BN) for weights_BN in _drawn_weights(membership, count, seed, resamples)])
    draws = drawn[np.isfinite(drawn)]
    undefined = 1 - draws.size / drawn.size
    if draws.size == 0 or np.ptp(draws) == 0:
        return Resampled(value, value, undefined, alike=True)
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / draws.size
    bias = float(scipy.special.ndtri(np.clip(below, 0.5 / draws.size, 1 - 0.5 / draws.size)))
    at_a_time = max(1, _MOST_KEPT // len(membership))
    starts = range(0, count, at_a_time)
    without = [np.arange(start, min(start + at_a_time, count))[:, None] for start in starts]
    left_out = np.concatenate([statistic((membership != groups_B1).astype(float)) for groups_B1 in without])
    left_out = left_out[np.isfinite(left_out)]
    away = left_out.mean() - left_out if left_out.size else left_out
    spread = float(np.sum(away**2)) ** 1.5
    acceleration = float(np.sum(away**3)) / (6 * spread) if spread > 0 else 0.0
    tails = scipy.special.ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    # Beyond the pole of the correction an end is the farthest draw on its side.
    rest = np.maximum(1 - acceleration * (bias + tails), 1e-12)
    levels = scipy.special.ndtr(bias + (bias + tails) / rest)
    low, high = np.quantile(draws, np.clip(levels, 0, 1))
    return Resampled(float(low), float(high), undefined, alike=False)


def _binomial_quantile(level: float, size: int, share: float) -> int:
    """The fewest successes of ``size`` whose cumulative probability reaches ``level``."""
    return int(np.searchsorted(scipy.special.bdtr(np.arange(size + 1), size, share), level))


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
    check_counts(hits, n)
    gap = hits / n - target
    if gap == 0:
        return None
    z = normal_quantile(confidence)
    return max(0, math.ceil(z * z * target * (1 - target) / (gap * gap)) - n)


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


def check_counts(hits: float, n: float) -> None:
    """Raises InvalidInput unless ``hits`` of ``n`` is a proportion."""
    if not 0 <= hits <= n or n < 1:
        raise InvalidInput(f"{hits} hits of {n} items is no proportion", "give 0 <= hits <= n and n >= 1")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence} is not between 0 and 1", "give a share such as 0.9")


def normal_quantile(confidence: float) -> float:
    """The two-sided critical value of the normal distribution."""
    _check_confidence(confidence)
    return float(scipy.special.ndtri((1 + confidence) / 2))


def wilson_bounds(rate: float, size: float, critical: float) -> Interval:
    """Ends of Wilson's interval at the normal quantile ``critical``."""
    weight = critical * critical / size
    centre = (rate + weight / 2) / (1 + weight)
    half = critical * math.sqrt(rate * (1 - rate) / size + weight / (4 * size)) / (1 + weight)
    # The ends at 0 and 1 are exact in theory; rounding must not move them.
    return (0.0 if rate == 0 else max(0.0, centre - half)), (1.0 if rate == 1 else min(1.0, centre + half))


def effective_size(values: Floats, groups: Sequence[str], confidence: float) -> tuple[float, float]:
    """How many independent items ``values`` are worth, and the critical value that goes with them."""
    if len(values) != len(groups):
        raise InvalidInput(f"{len(values)} values, but {len(groups)} groups", "give the group of every item")
    membership, count = _memberships(groups)
    if count == len(values):
        return float(count), normal_quantile(confidence)
    _check_confidence(confidence)
    critical = float(scipy.special.stdtrit(max(1, count - 1), (1 + confidence) / 2))
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


def _drawn_weights(membership: NDArray[np.intp], count: int, seed: int, resamples: int) -> Iterator[Floats]:
    """Weights (BN) of ``resamples`` draws of as many of the ``count`` groups, with replacement, some draws at a time. The same for all
    metrics of one measurement: draws of few groups are kept."""
    at_a_time = max(1, _MOST_KEPT // max(len(membership), count))
    kept = _kept_draws(seed, count, resamples) if count * resamples <= _MOST_KEPT else None
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, at_a_time):
        stop = min(start + at_a_time, resamples)
        draws_BG = kept[start:stop] if kept is not None else _drawn(generator, count, stop - start)
        yield draws_BG[:, membership].astype(float)


@lru_cache(maxsize=2)
def _kept_draws(seed: int, count: int, resamples: int) -> NDArray[np.uint32]:
    return _drawn(np.random.default_rng(seed), count, resamples)


def _drawn(generator: np.random.Generator, count: int, draws: int) -> NDArray[np.uint32]:
    """How often each of ``count`` groups comes up in ``count`` draws with replacement (BG)."""
    found_BG = np.empty((draws, count), dtype=np.uint32)
    for row_G in found_BG:
        row_G[:] = np.bincount(generator.integers(0, count, count), minlength=count)
    return found_BG
