"""Sequential tests, valid at every look (e-values and confidence sequences)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

#: How many times as often events may come as the null allows: the alternatives that are mixed, alike.
_EXCESS = np.array([1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0])

#: How far above a target the alternatives lie that are mixed, as shares of the way to 1.
_ABOVE = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
#: Observations near which confidence sequences are tightest, and how closely a Dirichlet prior lies around the stated shares.
_TUNED_TO, _CONCENTRATION = 500.0, 100.0
#: The most observations that are asked for.
_MOST_VOTES = 1_000_000


class EventCounts(NamedTuple):
    """Units with an event on either arm, while the second arm was given ``share`` of the units (0 < share < 1)."""

    first: int
    second: int
    share: float


class Moments(NamedTuple):
    """Count, sum and sum of squares of observations, one a unit."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """The mean; 0 where there is nothing."""
        return self.total / self.n if self.n else 0.0

    def variance(self, added: float = 0.0) -> float:
        """The unbiased sample variance, as if ``added`` more observations lay at 0 and as many at 1; 0 below two observations."""
        n, total = self.n + 2 * added, self.total + added
        return max(0.0, (self.squares + added - total**2 / n) / (n - 1)) if self.n > 1 else 0.0


class ConfidenceBounds(NamedTuple):
    """A difference, and the ends of a confidence sequence for it at this moment."""

    value: float
    low: float
    high: float


def more_events(counts: Sequence[EventCounts]) -> float:
    """Evidence that events are more frequent on the second arm than on the first; ``counts`` are periods.

    Units are assigned at random, so whose event the next one is tells the ratio of the rates and nothing else: under the null the second
    arm has it with probability s at most, whatever the rates are and however they change with time. The e-process is the likelihood ratio
    of that Bernoulli sequence against s, mixed over higher ratios of the rates (method of mixtures, Robbins 1970; betting on a bounded
    mean, Waudby-Smith and Ramdas 2024, JRSS B 86). Only the first event of a unit counts, so events of one unit may depend on one another.
    """
    gains = np.zeros(len(_EXCESS))
    for count in counts:
        odds = count.share / (1 - count.share)
        null, alternative = odds / (1 + odds), odds * _EXCESS / (1 + odds * _EXCESS)
        gains += count.second * np.log(alternative / null) + count.first * np.log((1 - alternative) / (1 - null))
    return float(scipy.special.logsumexp(gains) - math.log(len(_EXCESS)))


def mean_difference(periods: Sequence[tuple[Moments, Moments]], alpha: float, *, bounded: bool = False) -> ConfidenceBounds | None:
    """The mean of the second arm minus that of the first, with a one-sided confidence sequence of level ``alpha`` each way; None below
    two observations an arm.

    Within a period the assignment's share is one, so the periods' differences are averaged by their size (stratified, as time may move
    both arms). Asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024 (Annals of Statistics 52), one-sided
    form: σ √(2 (tρ² + 1) / (t² ρ²) · ln(1 + √(tρ² + 1) / 2α)), with ρ chosen so that it is tightest near 500 observations.

    ``bounded`` observations lie in [0, 1], such as events of units. Thirty units without an event have no variance, though events may well
    be there: variances are then estimated with ln(1 / α) more observations at either end, as many as the interval of Agresti and Coull
    1998 adds (half the square of the normal quantile).
    """
    usable = [(first, second) for first, second in periods if min(first.n, second.n) >= 2]
    size = sum(first.n + second.n for first, second in usable)
    if not usable:
        return None
    weights = [(first.n + second.n) / size for first, second in usable]
    value = sum(w * (second.mean - first.mean) for w, (first, second) in zip(weights, usable, strict=True))
    added = needed(alpha) if bounded else 0.0
    spread = sum(w**2 * (one.variance(added) / one.n + two.variance(added) / two.n) for w, (one, two) in zip(weights, usable, strict=True))
    # ρ² of the confidence sequence (Waudby-Smith et al., appendix on ρ): tightest near that many observations.
    level = -2 * math.log(2 * alpha) if alpha < 0.5 else 1.0
    grown = size * ((level + math.log(max(level, 1.0)) + 1) / _TUNED_TO) + 1
    radius = math.sqrt(spread * 2 * grown / (grown - 1) * math.log(1 + math.sqrt(grown) / (2 * alpha)))
    return ConfidenceBounds(value, value - radius, value + radius)


def more_than(votes: Moments, target: float) -> float:
    """Evidence that the mean of observations in [0, 1] is more than ``target``, 0 < target < 1.

    Under a mean of ``target`` or less, each factor (p / t)ˣ ((1 − p) / (1 − t))¹⁻ˣ with p > t has an expectation of 1 at most: it is convex
    in x, so it lies below its chord, which is linear in the mean (the bound of Hoeffding 1963 for bounded variables by a coin's). Their
    product over the observations is an e-process, and so is its mixture over alternatives p; it needs no more than count and sum, is exact
    at every sample size, and holds at all looks at once (Ville 1939; Waudby-Smith and Ramdas 2024, JRSS B 86).
    """
    alternatives = target + (1 - target) * _ABOVE
    gains = votes.total * np.log(alternatives / target) + (votes.n - votes.total) * np.log((1 - alternatives) / (1 - target))
    return float(scipy.special.logsumexp(gains) - math.log(len(_ABOVE)))


def share_bounds(votes: Moments, alpha: float) -> ConfidenceBounds | None:
    """The mean of observations in [0, 1], and the ends of a confidence sequence, of level ``alpha`` each way; None without observations.

    Each end is the value at which ``more_than`` ceases to reject, so that it says what that test says.
    """
    if not votes.n:
        return None
    mirrored = Moments(votes.n, votes.n - votes.total)
    return ConfidenceBounds(votes.mean, _proven_above(votes, alpha), 1 - _proven_above(mirrored, alpha))


def votes_needed(votes: Moments, target: float, alpha: float) -> int | None:
    """How many more observations prove a mean of more than ``target`` at level ``alpha`` if they are as those so far (all 1 where there are
    none); 0 when it is proven, None when no million would do."""
    rate = votes.mean if votes.n else 1.0

    def proves(more: int) -> bool:
        return more_than(Moments(votes.n + more, votes.total + more * rate), target) >= needed(alpha)

    if proves(0):
        return 0
    if rate <= target or not proves(_MOST_VOTES):
        return None
    low, high = 0, _MOST_VOTES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high


def _proven_above(votes: Moments, alpha: float) -> float:
    """The largest target that the mean is proven to exceed."""
    low, high = 0.0, votes.mean
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if 0 < middle < 1 and more_than(votes, middle) >= needed(alpha) else (low, middle)
    return low


def other_shares(counts: Sequence[tuple[Sequence[int], Sequence[float]]]) -> float:
    """Evidence that units do not fall on the arms in the stated shares; one pair of counts and shares for each period.

    Bayes factor of a Dirichlet-multinomial around the stated shares against them (Lindon and Malek 2022, NeurIPS, "Anytime-valid inference
    for multinomial count data").
    """
    return sum(_against(np.asarray(found, float), np.asarray(shares, float) / sum(shares)) for found, shares in counts)


def needed(alpha: float) -> float:
    """The evidence at which a null is rejected at level ``alpha``."""
    return -math.log(alpha)


def _against(found: np.ndarray, shares: np.ndarray) -> float:
    prior = _CONCENTRATION * shares
    mixture = (
        np.sum(scipy.special.gammaln(prior + found) - scipy.special.gammaln(prior))
        - scipy.special.gammaln(prior.sum() + found.sum())
        + scipy.special.gammaln(prior.sum())
    )
    return float(mixture - np.sum(found * np.log(shares)))
