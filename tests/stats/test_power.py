"""Chances of passing, against simulation of the rule itself."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.stats.intervals import clustered_wilson, score_interval, spend, wilson
from tailorbird.stats.power import (
    ALIKE,
    RUNGS,
    STATED_POWER,
    Chances,
    ClusterSizes,
    grouped_low,
    grouped_rate_for_release,
    pass_probability,
    rate_for_release,
    release_chance,
)


@pytest.mark.parametrize(
    ("rate", "n", "target"),
    [
        (0.9, 200, 0.85),
        (0.97, 60, 0.9),
    ],
)
def test_the_chance_of_passing_is_what_the_rule_does(rate: float, n: int, target: float) -> None:
    hits = np.random.default_rng(3).binomial(n, rate, 20_000)
    passing = {count: wilson(int(count), n, 0.9)[0] >= target for count in np.unique(hits)}
    assert pass_probability(rate, n, target, 0.9) == pytest.approx(np.mean([passing[count] for count in hits]), abs=0.012)


def test_the_rate_that_is_named_passes_as_often_as_is_said() -> None:
    rate = rate_for_release((150, 150), 0.8, 0.9, 1)
    assert rate is not None
    assert 0.8 < rate < 0.95
    assert pass_probability(rate, 150, 0.8, spend(0.9, 1)) ** 2 == pytest.approx(STATED_POWER, abs=1e-3)
    assert rate_for_release((5, 5), 0.9, 0.9, 1) is None


def test_rungs_below_that_spend_looks_leave_less_to_the_right_one() -> None:
    """By hand: the rung below passes dev in half of the climbs and is confirmed in half of those; the last one then has a dearer look."""
    last = Chances(0.9, [0.8, 0.6])
    assert release_chance([], Chances(0.9, [0.8])) == pytest.approx(0.72)
    assert release_chance([Chances(0.5, [0.5, 0.5])], last) == pytest.approx(0.9 * (0.5 * 0.8 + 0.25 * 0.6))


@pytest.mark.parametrize(
    ("n", "target", "confidence"),
    [
        (150, 0.8, 0.9),
    ],
)
def test_the_stated_rate_is_released_four_times_out_of_five_over_rungs_that_pass_by_chance(
    n: int, target: float, confidence: float
) -> None:
    """The rule, played: eleven rungs at the target itself, then the one in question."""
    rate = rate_for_release((n, n), target, confidence)
    assert rate is not None
    assert rate > (rate_for_release((n, n), target, confidence, 1) or 1)
    random, simulations = np.random.default_rng(4), 20_000
    looks, released, right = np.zeros(simulations, dtype=int), np.zeros(simulations, dtype=bool), 0
    least = [next(h for h in range(n + 1) if wilson(h, n, spend(confidence, look))[0] >= target or h == n) for look in range(1, RUNGS + 1)]
    for value in [target] * (RUNGS - 1) + [rate]:
        looked = ~released & (random.binomial(n, value, simulations) >= least[0])
        confirmed = looked & (random.binomial(n, value, simulations) >= np.array(least)[np.minimum(looks, RUNGS - 1)])
        looks, released, right = looks + looked, released | confirmed, int(confirmed.sum())
    assert STATED_POWER - 0.012 <= right / simulations <= STATED_POWER + 0.03


def test_what_cannot_be_proven_is_never_passed() -> None:
    assert pass_probability(1.0, 4, 0.9, 0.9) == 0
    assert pass_probability(0.5, 10, 0.0, 0.9) == 1


@pytest.mark.parametrize(
    ("size", "count", "target"),
    [
        (5, 30, 0.8),
    ],
)
def test_what_is_stated_of_groups_holds_where_their_items_are_as_alike_as_assumed(size: int, count: int, target: float) -> None:
    """Played with the gate's own function, on draws of its own."""
    groups = ClusterSizes({size: count})
    rate = grouped_rate_for_release((groups, groups), target, 0.9, 1)
    assert rate is not None
    assert target < rate < 1
    names, random, odds = [str(place // size) for place in range(size * count)], np.random.default_rng(5), (1 - ALIKE) / ALIKE
    hits = random.random((300, count, size)) < random.beta(rate * odds, (1 - rate) * odds, (300, count, 1))
    passed = np.mean([clustered_wilson(list(one.ravel()), names, spend(0.9, 1))[0] >= target for one in hits])
    assert passed**2 >= 0.78
    assert rate > (rate_for_release((size * count, size * count), target, 0.9, 1) or 0)
    assert (grouped_rate_for_release((groups, groups), target, 0.9) or 1) > rate


def test_groups_of_one_are_items_and_few_groups_prove_little() -> None:
    alone, together = ClusterSizes.of([1] * 40), ClusterSizes.of([10] * 4)
    assert (alone.number, alone.items, alone.typical) == (40, 40, 1)
    assert grouped_low(0.95, alone, 0.9) == pytest.approx(score_interval(0.95, 40, 0.9)[0], abs=0.01)
    assert grouped_low(0.95, together, 0.9) < grouped_low(0.95, alone, 0.9) - 0.1
    assert grouped_rate_for_release((together, together), 0.9, 0.9, 1) is None
    assert ClusterSizes.of([1, 3]).typical == 2.5
