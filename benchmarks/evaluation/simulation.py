"""The whole rule of ``adapt``, played ten thousand times with known truths: how often it passes what it must not, and what it should.

In: sizes, a seed. Out: shares of false passes, power, coverage. Everything is drawn and judged as whole arrays; ``check_formulas`` first
shows that the arrays say what the gate's own functions say.

The rule: a climb over rungs on dev, at the confidence of a first look; the first rung that passes is looked at on the sealed test, at the
confidence of this look; where the test says no, the team comes back with new candidates, and the next look costs more. A pass is *false*
when the candidate's true rate lies below the target. All candidates are placed at the target itself, where false passes are likeliest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tailorbird.foundations.power import Groups, grouped_low, grouped_rate_for_power, rate_for_power
from tailorbird.foundations.statistics import clustered_wilson, paired_interval, smallest_passing, spend, wilson

Floats = NDArray[np.float64]

#: Nominal error of the gate: the tier ``limited`` is 90 % two-sided, so 5 % on the side that counts.
CONFIDENCE = 0.90
SIZES = (60, 100, 150, 300, 600, 1000, 3000)
TARGETS = (0.5, 0.7, 0.8, 0.9, 0.95)
RUNGS, LOOKS = 4, 10
#: Clusters: items that share a subject, and how alike they are (intra-class correlation).
CLUSTER, ALIKE = 5, 0.3


@dataclass(frozen=True)
class World:
    """One setting: items a split, the target, whether items come in clusters."""

    n: int
    target: float
    clustered: bool

    def provable(self) -> bool:
        """Objectives whose target the test set could not prove are refused before anything is spent."""
        if self.clustered:
            return grouped_low(1.0, self.groups, spend(CONFIDENCE, 1)) >= self.target
        return smallest_passing(self.n, self.target, spend(CONFIDENCE, 1)) is not None

    @property
    def groups(self) -> Groups:
        """How the items share groups, as the planner is told."""
        return Groups({CLUSTER: self.n // CLUSTER})


@dataclass(frozen=True)
class Splits:
    """Results of many independent candidates of one true rate, each on a split of its own: the share right, and the items it is worth."""

    rate_S: Floats
    size_S: Floats
    groups: int | None

    def lower_ends(self, confidence: float, chosen: NDArray[np.int64]) -> Floats:
        """The lower ends of the intervals of the ``chosen`` ones, as the gate computes them."""
        critical = _normal(confidence) if self.groups is None else float(special.stdtrit(self.groups - 1, (1 + confidence) / 2))
        return wilson_low(self.rate_S[chosen], self.size_S[chosen], critical)


def draw_splits(world: World, rate: float, count: int, random: np.random.Generator) -> Splits:
    """``count`` candidates of a true ``rate``. Looks and rungs then draw from them with replacement."""
    if not world.clustered:
        return Splits(random.binomial(world.n, rate, count) / world.n, np.full(count, float(world.n)), None)
    groups, odds = world.n // CLUSTER, (1 - ALIKE) / ALIKE
    hits = random.binomial(CLUSTER, random.beta(rate * odds, (1 - rate) * odds, (count, groups)))
    return Splits(*worth(hits), groups)


def worth(hits_SG: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The share right, and the items that groups of ``CLUSTER`` items with so many hits each are worth, as ``clustered_wilson`` counts
    them."""
    groups = hits_SG.shape[1]
    n = groups * CLUSTER
    rate = hits_SG.sum(axis=1) / n
    independent = rate * (1 - rate) / (n - 1)
    sums = hits_SG - CLUSTER * rate[:, None]
    robust = (sums**2).sum(axis=1) / n**2 * groups / (groups - 1)
    # A fifth of one more group, gone the rarer way.
    imagined = 0.2 * CLUSTER * np.maximum(rate, 1 - rate) ** 2 / n**2
    return rate, n / np.maximum(1.0, (robust + CLUSTER * imagined) / (independent + imagined))


def clustered_low(hits_SG: NDArray[np.int64], confidence: float) -> Floats:
    """``clustered_wilson``'s lower ends."""
    rate, size = worth(hits_SG)
    return wilson_low(rate, size, float(special.stdtrit(hits_SG.shape[1] - 1, (1 + confidence) / 2)))


def wilson_low(rate: Floats, size: Floats, critical: float) -> Floats:
    """Wilson's lower end."""
    weight = critical**2 / size
    centre = (rate + weight / 2) / (1 + weight)
    return np.maximum(0.0, centre - critical * np.sqrt(rate * (1 - rate) / size + weight / (4 * size)) / (1 + weight))


def _normal(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))


def check_formulas(random: np.random.Generator) -> float:
    """The largest distance between the arrays' lower ends and those of the functions that the gate calls."""
    worst = 0.0
    for _ in range(200):
        groups = int(random.integers(4, 60))
        hits = random.binomial(CLUSTER, random.beta(4, 1, groups))
        outcomes = [place < count for count in hits for place in range(CLUSTER)]
        names = [str(group) for group in range(groups) for _ in range(CLUSTER)]
        expected = clustered_wilson(outcomes, names, CONFIDENCE)[0]
        worst = max(worst, abs(expected - clustered_low(hits[None, :], CONFIDENCE)[0]))
        n = groups * CLUSTER
        one = wilson_low(np.array([hits.sum() / n]), np.array([float(n)]), _normal(CONFIDENCE))[0]
        worst = max(worst, abs(wilson(int(hits.sum()), n, CONFIDENCE)[0] - one))
    return worst


def false_passes(world: World, simulations: int, random: np.random.Generator, dev_lies: bool) -> float:
    """The share of stories that end with a release although no candidate reaches the target. ``dev_lies``: the team has fitted dev, so that
    every climb finds a candidate that passes there, and all ``LOOKS`` looks are taken; only the sealed test stands in the way."""
    dev, test = (draw_splits(world, world.target, 2 * simulations, random) for _ in range(2))
    released = np.zeros(simulations, dtype=bool)
    looks = np.zeros(simulations, dtype=np.int64)
    for _ in range(LOOKS):
        opened = ~released
        if not dev_lies:
            rungs = random.integers(0, 2 * simulations, RUNGS * simulations)
            passed = dev.lower_ends(spend(CONFIDENCE, 1), rungs) >= world.target
            opened &= passed.reshape(RUNGS, simulations).any(axis=0)
        looks += opened
        for look in np.unique(looks[opened]):
            here = opened & (looks == look)
            chosen = random.integers(0, 2 * simulations, int(here.sum()))
            released[here] = test.lower_ends(spend(CONFIDENCE, int(look)), chosen) >= world.target
    return float(released.mean())


def power(world: World, simulations: int, random: np.random.Generator) -> tuple[float, float] | None:
    """The true rate that the planner states for these splits, and how often a candidate of that rate is released at the first look. None
    where the planner states none."""
    confidence = spend(CONFIDENCE, 1)
    if world.clustered:
        rate = grouped_rate_for_power((world.groups, world.groups), world.target, confidence)
    else:
        rate = rate_for_power((world.n, world.n), world.target, confidence)
    if rate is None:
        return None
    each = np.arange(simulations)
    dev, test = (draw_splits(world, rate, simulations, random).lower_ends(confidence, each) >= world.target for _ in range(2))
    return rate, float((dev & test).mean())


def coverage(n: int, simulations: int, random: np.random.Generator) -> dict[str, float]:
    """How often intervals at 90 % hold the truth: of a proportion (0.85), of one in clusters, and of a paired difference (0.08 and 0.05 of
    the pairs won and lost; the library's own function, on a tenth of the simulations)."""
    rate, critical = 0.85, _normal(CONFIDENCE)
    found = {}
    hits = random.binomial(n, rate, simulations) / n
    size = np.full(simulations, float(n))
    found["wilson"] = float(np.mean((wilson_low(hits, size, critical) <= rate) & (1 - wilson_low(1 - hits, size, critical) >= rate)))
    odds = (1 - ALIKE) / ALIKE
    grouped = random.binomial(CLUSTER, random.beta(rate * odds, (1 - rate) * odds, (simulations, n // CLUSTER)))
    low, high = clustered_low(grouped, CONFIDENCE), 1 - clustered_low(CLUSTER - grouped, CONFIDENCE)
    found["wilson_clustered"] = float(np.mean((low <= rate) & (high >= rate)))
    names = [str(place) for place in range(n)]
    held = 0
    for _ in range(simulations // 10):
        wins, losses, _ = random.multinomial(n, (0.08, 0.05, 0.87))
        ends = paired_interval([1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses), names, CONFIDENCE)
        held += ends[0] <= 0.03 <= ends[1]
    found["paired"] = held / (simulations // 10)
    return found
