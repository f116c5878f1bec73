"""Power: chances of passing the gate, and the true rate that takes.

A candidate passes a split when the lower end of Wilson's interval reaches the target. The rule asks that of dev and of test, so the chance
of passing is the product over both. A climb looks at test for each rung that passes dev, at the price of each look, until one is confirmed;
so rungs below may spend looks that the right one then lacks.

Where items share groups, how alike they are is known only afterwards. Before, an intra-class correlation of ``ALIKE`` is assumed, and the
gate's own rule is played on drawn outcomes (beta-binomial): a formula at the mean design effect promises too much, since the rule estimates
the effect from few groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy

from tailorbird.stats.design_effect import Floats, typical_size, worth
from tailorbird.stats.intervals import smallest_passing, spend

_Split = TypeVar("_Split")
#: What "four times out of five" is reckoned with: a little more, so that the promise is kept and not just met.
STATED_POWER = 0.83


def pass_probability(rate: float, n: int, target: float, confidence: float) -> float:
    """The chance that a candidate with the true ``rate`` passes on ``n`` independent items; 0 where even ``n`` hits would not do."""
    least = smallest_passing(n, target, confidence)
    if least is None:
        return 0.0
    return float(scipy.special.bdtrc(least - 1, n, rate)) if least else 1.0


#: Rungs that the stated power holds for: as many as long ladders have. All below the one in question are reckoned at the target itself,
#: where they pass dev wrongly as often as any may.
RUNGS = 12
#: The same where a hosted model is tried, too, in each of its four ways.
HOSTED_RUNGS = 17


@dataclass(frozen=True)
class Chances:
    """A candidate's chances: to pass ``dev``, and to pass test at the first, second, … look."""

    dev: float
    looks: Sequence[float]


def release_chance(below: Sequence[Chances], last: Chances) -> float:
    """The chance that a climb releases the ``last`` of its rungs: none ``below`` is released before, it passes dev, and then test at the
    look that they left it."""
    waiting = [1.0] + [0.0] * len(below)
    for rung in below:
        spent = [rung.dev * (1 - passing) for passing in rung.looks]
        waiting = [
            still * (1 - rung.dev) + (waiting[looks - 1] * spent[looks - 1] if looks else 0.0) for looks, still in enumerate(waiting)
        ]
    return last.dev * sum(reached * passing for reached, passing in zip(waiting, last.looks, strict=True))


def rate_for_release(sizes: tuple[int, int], target: float, confidence: float, rungs: int = RUNGS, *, scores: bool = False) -> float | None:
    """The smallest true rate of the last of so many rungs that is released with probability ``STATED_POWER``; None where no rate is.

    ``sizes`` are those of dev and test, ``confidence`` that of the risk tier, which each look spends from. ``scores``: items have scores
    from 0 to 1, and the rate is their mean. Where only a perfect split would do, nothing is stated of these: how often all of them are
    perfect does not follow from their mean.
    """
    if scores and any(smallest_passing(n, target, spend(confidence, 1)) == n for n in sizes):
        return None

    def chances(rate: float) -> Chances:
        dev, *looks = (pass_probability(rate, n, target, spend(confidence, look)) for n, look in _met(sizes, rungs))
        return Chances(dev, looks)

    return _rate_for_release(chances, target, confidence, STATED_POWER, rungs=rungs)


def _met(splits: tuple[_Split, _Split], rungs: int) -> list[tuple[_Split, int]]:
    """What a candidate must pass: dev, as at a first look; test, at each look that may be left to it."""
    return [(splits[0], 1), *((splits[1], look) for look in range(1, rungs + 1))]


def _rate_for_release(
    chances: Callable[[float], Chances], target: float, confidence: float, power: float, *, rungs: int, digits: float = 1e-6
) -> float | None:
    """Rungs below pass dev by chance as often as the interval may err: counts of few items err less often, means of their scores do not."""
    by_chance = chances(target)
    below = [Chances(max(by_chance.dev, (1 - spend(confidence, 1)) / 2), by_chance.looks)] * (rungs - 1)
    if release_chance(below, chances(1.0)) < power:
        return None
    return _smallest(lambda rate: release_chance(below, chances(rate)) >= power, digits)


#: How alike items of a group are assumed to be: the intra-class correlation of right and wrong.
ALIKE = 0.3
#: Splits that are drawn for a chance, and what "four times out of five" is reckoned with then: more, for the noise of the draws.
_DRAWN, _DRAWN_POWER = 2_000, 0.84
#: Groups of one size from which on it is drawn how many of them have each number of hits, rather than the hits of each.
_MANY = 2_000


@dataclass(frozen=True)
class ClusterSizes:
    """The groups of a split's items, by size: ``counts[size]`` of them."""

    counts: Mapping[int, int]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> ClusterSizes:
        """From the size of each group."""
        return cls(Counter(sizes))

    @property
    def number(self) -> int:
        """How many groups there are."""
        return sum(self.counts.values())

    @property
    def items(self) -> int:
        """How many items they hold."""
        return sum(size * count for size, count in self.counts.items())

    @property
    def sizes(self) -> Floats:
        """The size of each group."""
        return np.repeat(np.array(list(self.counts), dtype=float), list(self.counts.values()))

    @property
    def typical(self) -> float:
        """The size of the group that an item is in, on average over items."""
        return typical_size(self.sizes)


def grouped_low(rate: float, groups: ClusterSizes, confidence: float) -> float:
    """The lower end of the interval of an observed ``rate``, where items of a group are as alike as assumed (Kish's design effect)."""
    n, design_effect = groups.items, 1 + (groups.typical - 1) * ALIKE
    squares = rate * (1 - rate) * n * n / (n - 1) * design_effect * (groups.number - 1) / groups.number
    size = worth(np.array([rate]), np.array([squares]), groups.sizes)
    return float(_lower_ends(np.array([rate]), size, _student(groups, confidence))[0])


def grouped_rate_for_release(
    splits: tuple[ClusterSizes, ClusterSizes], target: float, confidence: float, rungs: int = RUNGS
) -> float | None:
    """``rate_for_release`` where items share groups; None where no rate does."""
    asked = [spend(confidence, look) for look in range(1, rungs + 1)]

    def chances(rate: float) -> Chances:
        [dev] = _grouped_chances(rate, splits[0], target, asked[:1])
        return Chances(dev, _grouped_chances(rate, splits[1], target, asked))

    return _rate_for_release(chances, target, confidence, _DRAWN_POWER, rungs=rungs, digits=5e-4)


def _grouped_chances(rate: float, groups: ClusterSizes, target: float, confidences: Sequence[float]) -> list[float]:
    """The share of drawn splits whose lower end reaches the target, at each of ``confidences``. The same draws for the same groups, so that
    it grows with the rate."""
    if rate >= 1:
        return [float(grouped_low(1.0, groups, confidence) >= target) for confidence in confidences]
    random = np.random.default_rng(20)
    odds = (1 - ALIKE) / ALIKE
    hits_S, squares_S, weighted_S = (np.zeros(_DRAWN) for _ in range(3))
    for size, count in groups.counts.items():
        if count >= max(_MANY, size):
            found_SK = random.multinomial(count, _hit_chances(size, rate, odds), _DRAWN)
            hits_K = np.arange(size + 1)
            drawn_S, drawn_squares_S = found_SK @ hits_K, found_SK @ hits_K**2
        else:
            shape = (_DRAWN, count)
            drawn_SG = random.binomial(size, random.beta(rate * odds, (1 - rate) * odds, shape) if size > 1 else rate, shape)
            drawn_S, drawn_squares_S = drawn_SG.sum(axis=1), (drawn_SG**2).sum(axis=1)
        hits_S += drawn_S
        squares_S += drawn_squares_S
        weighted_S += size * drawn_S
    sizes_G, rates_S = groups.sizes, hits_S / groups.items
    from_mean_S = squares_S - 2 * rates_S * weighted_S + rates_S**2 * float((sizes_G**2).sum())
    worth_S = worth(rates_S, from_mean_S, sizes_G)
    ends = [_lower_ends(rates_S, worth_S, _student(groups, confidence)) for confidence in confidences]
    return [float(np.mean(lower_ends_S >= target)) for lower_ends_S in ends]


def _hit_chances(size: int, rate: float, odds: float) -> Floats:
    """The chance of each number of hits, 0 to ``size``, in a group: binomial, of a rate that is drawn from a beta distribution."""
    hits_K = np.arange(size + 1)
    if size == 1:
        return np.array([1 - rate, rate])
    chances = scipy.special.binom(size, hits_K) * np.exp(
        scipy.special.betaln(hits_K + rate * odds, size - hits_K + (1 - rate) * odds) - scipy.special.betaln(rate * odds, (1 - rate) * odds)
    )
    chances_K: Floats = chances / chances.sum()
    return chances_K


def _lower_ends(rates_S: Floats, sizes_S: Floats, critical: float) -> Floats:
    """Wilson's."""
    weight_S = critical**2 / sizes_S
    spread_S = critical * np.sqrt(rates_S * (1 - rates_S) / sizes_S + weight_S / (4 * sizes_S))
    low_S: Floats = (rates_S + weight_S / 2 - spread_S) / (1 + weight_S)
    return low_S


def _student(groups: ClusterSizes, confidence: float) -> float:
    return float(scipy.special.stdtrit(max(1, groups.number - 1), (1 + confidence) / 2))


def _smallest(holds: Callable[[float], bool], digits: float = 1e-6) -> float:
    """The smallest rate in [0, 1] for which ``holds``, which is monotone and true at 1, to so many ``digits``."""
    low, high = 0.0, 1.0
    while high - low > digits:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
