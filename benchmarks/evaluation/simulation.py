"""The whole rule of ``adapt``, played ten thousand times with known truths: how often it passes what it must not, and what it should.

In: settings, a seed. Out: shares of false passes, power, coverage. Everything is drawn and judged as whole arrays; ``check_formulas`` first
shows that the arrays say what the gate's own functions say.

The rule: a climb measures one rung after the other on dev, at the confidence of a first look; each that passes is looked at on the sealed
test, at the confidence of this look; where the test does not confirm it, the climb goes on, and the next look costs more. A team that has
no release comes back with new candidates, and goes on paying. A pass is *false* when the candidate's true value lies below the target: all
candidates are placed at the target itself, where false passes are likeliest. *Power* is the share of climbs that release a candidate which
truly reaches the target, where the last rung truly has what the plan states (``must_be``).

A candidate is the same on dev and test; nothing else ties its results. Splits are drawn as counts (multinomial over the outcomes of an item
or group), so that a large split costs no more than a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tailorbird.stats.intervals import clustered_wilson, mean_interval, smallest_passing, spend, wilson
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.stats.power import (
    HOSTED_RUNGS,
    RUNGS,
    ClusterSizes,
    grouped_low,
    grouped_rate_for_release,
    rate_for_release,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: What the items of a split tell: right or wrong, alone or in groups; or a score from 0 to 1.
Kind = Literal["items", "clusters", "scores"]
#: Where the rungs below the last one truly stand. ``far``: at half the target. ``spaced``: evenly between that and the last one. ``just
#: below``: at the target, less too little to tell. ``between``: halfway between the target and the last one, so that each may be released,
#: and most are not.
Layout = Literal["far", "spaced", "just below", "between"]

#: The tiers' confidences. The tier ``limited`` is 90 % two-sided, so that its nominal error is 5 % on the side that counts.
CONFIDENCES = (0.80, 0.90, 0.95)
SIZES = (60, 100, 150, 300, 600, 1000, 3000)
TARGETS = (0.5, 0.7, 0.8, 0.9, 0.95)
#: Rungs of a ladder: of an automatic one without documents and endpoints, and so on, up to every rung there is, each in all its variants:
#: floor, tuned encoder, two prompts, nearest, two ways of grounding, four ways of a hosted model, searched prompt, four adapters, all
#: weights.
LADDERS = (4, 8, 12, 17)
LAYOUTS: tuple[Layout, ...] = ("far", "spaced", "just below")
#: Climbs that a team makes in vain at most, each of the longest ladder; looks of a team that has fitted dev.
CLIMBS, LOOKS = 10, 24
#: Clusters: items that share a subject, and how alike they are (intra-class correlation).
CLUSTER, ALIKE = 5, 0.3
#: Scores: in tenths; beta-binomial with so large a sum of its parameters. 1 is wide (half a coin's variance), 6 narrow (a seventh of it).
TENTHS, SPREADS = 10, (1.0, 6.0)


@dataclass(frozen=True)
class World:
    """One setting: items a split, the target, what items tell, the tier's confidence, and the spread of scores."""

    n: int
    target: float
    kind: Kind = "items"
    confidence: float = 0.90
    spread: float = 1.0

    def provable(self) -> bool:
        """Objectives whose target the test set could not prove are refused before anything is spent."""
        if self.kind == "clusters":
            return grouped_low(1.0, self.groups, spend(self.confidence, 1)) >= self.target
        return smallest_passing(self.n, self.target, spend(self.confidence, 1)) is not None

    @property
    def groups(self) -> ClusterSizes:
        """How the items share groups, as the planner is told."""
        return ClusterSizes({CLUSTER: self.n // CLUSTER})

    def stated(self, rungs: int = RUNGS) -> float | None:
        """The true value that the plan states for so many rungs; None where it states none. Scores are reckoned as shares, as the planner
        does."""
        rungs = RUNGS if rungs <= RUNGS else HOSTED_RUNGS
        if self.kind == "clusters":
            return grouped_rate_for_release((self.groups, self.groups), self.target, self.confidence, rungs)
        return rate_for_release((self.n, self.n), self.target, self.confidence, rungs, scores=self.kind == "scores")

    def stated_for_one(self) -> float | None:
        """What the plan would state if there were but one rung, and one look."""
        if self.kind == "clusters":
            return grouped_rate_for_release((self.groups, self.groups), self.target, self.confidence, 1)
        return rate_for_release((self.n, self.n), self.target, self.confidence, 1)


@dataclass(frozen=True)
class Draws:
    """How a candidate of known truth does on many independent splits: S samples."""

    world: World
    #: Counts of each outcome: (S, outcomes).
    counts_SO: NDArray[np.int64]

    def passing(self, look: int) -> Flags:
        """Which samples prove the target at the confidence of this look."""
        return self.lower_ends(spend(self.world.confidence, look)) >= self.world.target

    def lower_ends(self, confidence: float) -> Floats:
        """As the gate computes them."""
        if self.world.kind == "scores":
            return self._of_scores(confidence)
        if self.world.kind == "items":
            return wilson_low(self.counts_SO[:, 1] / self.world.n, np.full(len(self.counts_SO), float(self.world.n)), _normal(confidence))
        groups = self.world.n // CLUSTER
        return wilson_low(*self._worth, float(special.stdtrit(groups - 1, (1 + confidence) / 2)))

    def _of_scores(self, confidence: float) -> Floats:
        n, (mean_S, variance_S) = self.world.n, self._moments
        critical = float(special.stdtrit(n - 1, (1 + confidence) / 2))
        low_S = wilson_low(mean_S, worth_of_scores(mean_S, variance_S, n), critical)
        alike = wilson_low(mean_S, np.full(len(mean_S), float(n)), _normal(confidence))
        return np.where(variance_S > 0, low_S, alike)

    @cached_property
    def _worth(self) -> tuple[Floats, Floats]:
        return worth(self.counts_SO)

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        """Mean and variance of the scores of each sample; in whole tenths, so that scores that are alike have no variance at all."""
        tenths_O = np.arange(TENTHS + 1)
        sum_S, squares_S = self.counts_SO @ tenths_O, self.counts_SO @ tenths_O**2
        n = self.world.n
        return sum_S / n / TENTHS, (n * squares_S - sum_S**2) / n**2 / TENTHS**2


def draw(world: World, value: float, samples: int, random: np.random.Generator) -> Draws:
    """``samples`` splits as a candidate of the true ``value`` answers them."""
    if world.kind == "items":
        hits_S = random.binomial(world.n, value, samples)
        return Draws(world, np.stack([world.n - hits_S, hits_S], axis=1))
    if world.kind == "clusters":
        odds = (1 - ALIKE) / ALIKE
        return Draws(world, random.multinomial(world.n // CLUSTER, _beta_binomial(CLUSTER, value, odds), samples))
    return Draws(world, random.multinomial(world.n, _beta_binomial(TENTHS, value, world.spread), samples))


def _beta_binomial(size: int, value: float, odds: float) -> Floats:
    """Chances of 0 … ``size`` hits."""
    if value >= 1:
        return np.eye(size + 1)[size]
    chances: Floats = stats.betabinom.pmf(np.arange(size + 1), size, value * odds, (1 - value) * odds)
    return chances / chances.sum()


def worth(counts_SO: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The share right, and the items that groups of ``CLUSTER`` items are worth, as ``clustered_wilson`` counts them; ``counts_SO`` are
    groups with 0, 1, … hits."""
    groups, hits_O = int(counts_SO[0].sum()), np.arange(CLUSTER + 1)
    n = groups * CLUSTER
    rate_S = counts_SO @ hits_O / n
    independent_S = rate_S * (1 - rate_S) / (n - 1)
    robust_S = (counts_SO * (hits_O - CLUSTER * rate_S[:, None]) ** 2).sum(axis=1) / n**2 * groups / (groups - 1)
    # A fifth of one more group, gone the rarer way.
    imagined_S = 0.2 * CLUSTER * np.maximum(rate_S, 1 - rate_S) ** 2 / n**2
    return rate_S, n / np.maximum(1.0, (robust_S + CLUSTER * imagined_S) / (independent_S + imagined_S))


def wilson_low(rate: Floats, size: Floats, critical: float) -> Floats:
    """Wilson's lower end."""
    weight = critical**2 / size
    centre = (rate + weight / 2) / (1 + weight)
    return np.maximum(0.0, centre - critical * np.sqrt(rate * (1 - rate) / size + weight / (4 * size)) / (1 + weight))


def worth_of_scores(mean_S: Floats, variance_S: Floats, n: int) -> Floats:
    """The hits that ``n`` scores from 0 to 1 are worth, as ``mean_interval`` counts them."""
    imagined_S = 0.3 * np.maximum(mean_S, 1 - mean_S) ** 2
    as_hits_S, robust_S = mean_S * (1 - mean_S) * n**2 / (n - 1), variance_S * n**2 / (n - 1)
    return n * (as_hits_S + imagined_S) / (robust_S + imagined_S)


def _normal(confidence: float) -> float:
    return float(special.ndtri((1 + confidence) / 2))


def check_formulas(random: np.random.Generator) -> float:
    """The largest distance between the arrays' lower ends and those of the functions that the gate calls."""
    worst = 0.0
    for _ in range(200):
        groups = int(random.integers(4, 60))
        hits = random.binomial(CLUSTER, random.beta(4, 1, groups))
        outcomes = [place < hit for hit in hits for place in range(CLUSTER)]
        names = [str(group) for group in range(groups) for _ in range(CLUSTER)]
        ours = Draws(World(groups * CLUSTER, 0.5, "clusters"), np.bincount(hits, minlength=CLUSTER + 1)[None, :])
        worst = max(worst, abs(clustered_wilson(outcomes, names, 0.9)[0] - ours.lower_ends(0.9)[0]))
        n = groups * CLUSTER
        one = Draws(World(n, 0.5), np.array([[n - hits.sum(), hits.sum()]])).lower_ends(0.9)[0]
        worst = max(worst, abs(wilson(int(hits.sum()), n, 0.9)[0] - one))
        scored = draw(World(n, 0.5, "scores"), float(random.uniform(0.3, 0.99)), 1, random)
        scores = np.repeat(np.arange(TENTHS + 1) / TENTHS, scored.counts_SO[0])
        worst = max(worst, abs(mean_interval(scores, [str(item) for item in range(n)], 0.9)[0] - scored.lower_ends(0.9)[0]))
    return worst


@dataclass
class Rungs:
    """Results of rungs of one true value, from which climbs draw: S splits of dev, and of test at every look that was asked for."""

    dev: Draws
    test: Draws

    def __post_init__(self) -> None:
        self.dev_S = self.dev.passing(1)
        self._looks: dict[int, Flags] = {}

    def test_S(self, look: int) -> Flags:
        """Which samples of test confirm at this look."""
        if look not in self._looks:
            self._looks[look] = self.test.passing(look)
        return self._looks[look]


def rungs_of(world: World, value: float, samples: int, random: np.random.Generator) -> Rungs:
    """What rungs of a true ``value`` do."""
    return Rungs(draw(world, value, samples, random), draw(world, value, samples, random))


class Stories:
    """Many stories of one objective at once: which ended with a release, and how many looks each has taken."""

    def __init__(self, number: int, random: np.random.Generator) -> None:
        self._random = random
        self.released = np.zeros(number, dtype=bool)
        self.looks = np.zeros(number, dtype=np.int64)

    def climb(self, rungs: Rungs, *, dev_lies: bool = False, goes_on: bool = True) -> int:
        """One more rung in every story that has no release; how many it released. Without ``goes_on`` a story takes one look at most."""
        number = len(self.released)
        passed = np.ones(number, dtype=bool) if dev_lies else rungs.dev_S[self._drawn(rungs, number)]
        looked = passed & ~self.released & (goes_on | (self.looks == 0))
        self.looks += looked
        before = int(self.released.sum())
        for look in np.unique(self.looks[looked]):
            here = np.flatnonzero(looked & (self.looks == look))
            self.released[here] = rungs.test_S(int(look))[self._drawn(rungs, len(here))]
        return int(self.released.sum()) - before

    def _drawn(self, rungs: Rungs, number: int) -> NDArray[np.int64]:
        return self._random.integers(0, len(rungs.dev_S), number)


def false_passes(world: World, simulations: int, random: np.random.Generator, dev_lies: bool) -> float:
    """The share of stories that end with a release although no candidate reaches the target. ``dev_lies``: the team has fitted dev, so that
    every rung passes there, and ``LOOKS`` looks are taken; only the sealed test stands in the way."""
    rungs, stories = rungs_of(world, world.target, 2 * simulations, random), Stories(simulations, random)
    for _ in range(LOOKS if dev_lies else CLIMBS * max(LADDERS)):
        stories.climb(rungs, dev_lies=dev_lies)
    return float(stories.released.mean())


def truths(world: World, layout: Layout, rungs: int, last: float) -> list[float]:
    """What the rungs of a ladder truly reach, the last one last."""
    low = world.target / 2
    below = {"far": low, "just below": world.target, "between": (world.target + last) / 2}
    if layout == "spaced":
        return [float(value) for value in np.linspace(low, last, rungs)]
    return [below[layout]] * (rungs - 1) + [last]


class Pools:
    """Rungs by their true value, so that settings that share one share its draws."""

    def __init__(self, world: World, samples: int, random: np.random.Generator) -> None:
        self._world, self._samples, self._random = world, samples, random
        self._known: dict[float, Rungs] = {}

    def of(self, value: float) -> Rungs:
        """Rungs of this true value."""
        if value not in self._known:
            self._known[value] = rungs_of(self._world, value, self._samples, self._random)
        return self._known[value]


def power(pools: Pools, values: Sequence[float], target: float, stories: Stories, *, goes_on: bool = True) -> float:
    """The share of climbs over rungs of these true values that release one that reaches the ``target``. Those ``just below`` stand at the
    target itself and do not count."""
    right = 0
    for value in values:
        released = stories.climb(pools.of(value), goes_on=goes_on)
        right += released if value > target else 0
    return right / len(stories.released)


def alike(n: int, target: float, rungs: int, simulations: int, random: np.random.Generator) -> dict[str, float]:
    """Power by layout where all rungs answer the same items and find the same ones hard: right where a normal variate, half of whose
    variance is the item's, stays below the candidate's quantile."""
    world = World(n, target)
    last = world.stated(rungs)
    assert last is not None
    found = {}
    for layout in LAYOUTS:
        values, right = truths(world, layout, rungs, last), 0
        released, looks = np.zeros(simulations, dtype=bool), np.zeros(simulations, dtype=np.int64)
        hard = [random.standard_normal((simulations, n), dtype=np.float32) for _ in range(2)]
        for value in values:
            dev, test = (_hits(shared, value, random) for shared in hard)
            looked = ~released & (Draws(world, np.stack([n - dev, dev], axis=1)).passing(1))
            looks += looked
            drawn = Draws(world, np.stack([n - test, test], axis=1))
            confirmed = np.zeros(simulations, dtype=bool)
            for look in np.unique(looks[looked]):
                confirmed |= looked & (looks == look) & drawn.passing(int(look))
            right += int(confirmed.sum()) if value > target else 0
            released |= confirmed
        found[layout] = right / simulations
    return found


def listed(n: int, target: float, simulations: int, random: np.random.Generator, last: float | None = None) -> dict[str, float]:
    """The rule of a ladder that an objective lists: every rung is measured on dev, the cheapest that passes is looked at unless a costlier
    one that passes is better by more than the margin, in pairs on the same items; where the test does not confirm it, the next of them.

    All candidates answer the same items and find the same ones hard. Without ``last`` all lie at the target, and a team without a release
    comes back ``CLIMBS`` times; with it, the last of one ladder has this true value. Shares of stories that end with a release below the
    target, which all at it count as (``false_pass``), and with one that reaches it (``released``).
    """
    world, values = World(n, target), [target] * (max(LADDERS) - 1) + [last or target]
    ended = [_listed_story(world, values, random, CLIMBS if last is None else 1) for _ in range(simulations)]
    right = sum(value is not None and value > target for value in ended)
    return {"false_pass": sum(value is not None for value in ended) / simulations - right / simulations, "released": right / simulations}


def _listed_story(world: World, values: Sequence[float], random: np.random.Generator, climbs: int) -> float | None:
    """The true value of what is released; None where nothing is."""
    look, hard_DN = 0, random.standard_normal((2, world.n))
    for _ in range(climbs):
        dev_RN, test_RN = (_answered(hard_N, values, random) for hard_N in hard_DN)
        left = [int(rung) for rung in np.flatnonzero(_draws_of(world, dev_RN).passing(1))]
        while left:
            chosen, look = _choice(dev_RN, left), look + 1
            left.remove(chosen)
            if _draws_of(world, test_RN[chosen : chosen + 1]).passing(look)[0]:
                return values[chosen]
    return None


#: The margin of an objective that says nothing else.
MARGIN = 0.02


def _choice(dev_RN: Flags, passing: Sequence[int]) -> int:
    """The rung that is looked at next."""
    chosen, items = passing[0], [str(item) for item in range(dev_RN.shape[1])]
    for costlier in passing[1:]:
        differences = dev_RN[costlier].astype(float) - dev_RN[chosen]
        if differences.mean() > MARGIN and paired_interval(differences.tolist(), items, LISTED_CONFIDENCE)[0] > MARGIN:
            chosen = costlier
    return chosen


#: The confidence of comparisons in the tier that the listed ladder is played for.
LISTED_CONFIDENCE = 0.90


def _answered(hard_N: Floats, values: Sequence[float], random: np.random.Generator) -> Flags:
    """Which items, so hard, each candidate answers rightly: (rungs, items)."""
    own_RN = random.standard_normal((len(values), len(hard_N)))
    return (hard_N + own_RN) / np.sqrt(2) < special.ndtri(np.array(values))[:, None]


def _draws_of(world: World, right_RN: Flags) -> Draws:
    hits_R = right_RN.sum(axis=1)
    return Draws(world, np.stack([world.n - hits_R, hits_R], axis=1))


def _hits(hard_SN: NDArray[np.float32], value: float, random: np.random.Generator) -> NDArray[np.int64]:
    own_SN = random.standard_normal(hard_SN.shape, dtype=np.float32)
    return ((hard_SN + own_SN) / np.sqrt(2) < special.ndtri(value)).sum(axis=1)


def coverage(n: int, simulations: int, random: np.random.Generator) -> dict[str, float]:
    """How often intervals at 90 % hold the truth: of a proportion (0.85), of one in clusters, and of a paired difference (0.08 and 0.05 of
    the pairs won and lost; the library's own function, on a tenth of the simulations)."""
    rate, found = 0.85, {}
    kinds: tuple[tuple[str, Kind], ...] = (("wilson", "items"), ("wilson_clustered", "clusters"))
    for name, kind in kinds:
        drawn = draw(World(n, rate, kind), rate, simulations, random)
        low, high = drawn.lower_ends(0.9), 1 - Draws(drawn.world, drawn.counts_SO[:, ::-1]).lower_ends(0.9)
        found[name] = float(np.mean((low <= rate) & (high >= rate)))
    names = [str(place) for place in range(n)]
    held = 0
    for _ in range(simulations // 10):
        wins, losses, _ = random.multinomial(n, (0.08, 0.05, 0.87))
        ends = paired_interval([1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses), names, 0.9)
        held += ends[0] <= 0.03 <= ends[1]
    found["paired"] = held / (simulations // 10)
    return found
