"""Chances of passing, against simulation of the rule itself."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.foundations.power import STATED_POWER, items_for_power, pass_probability, rate_for_power
from tailorbird.foundations.statistics import unpaired_interval, wilson


@pytest.mark.parametrize(("rate", "n", "target"), [(0.9, 200, 0.85), (0.97, 60, 0.9), (0.8, 1000, 0.8)])
def test_the_chance_of_passing_is_what_the_rule_does(rate: float, n: int, target: float) -> None:
    hits = np.random.default_rng(3).binomial(n, rate, 20_000)
    passing = {count: wilson(int(count), n, 0.9)[0] >= target for count in np.unique(hits)}
    assert pass_probability(rate, n, target, 0.9) == pytest.approx(np.mean([passing[count] for count in hits]), abs=0.012)


def test_the_rate_that_is_named_passes_as_often_as_is_said() -> None:
    rate = rate_for_power((150, 150), 0.8, 0.9)
    assert rate is not None
    assert 0.8 < rate < 0.95
    assert pass_probability(rate, 150, 0.8, 0.9) ** 2 == pytest.approx(STATED_POWER, abs=1e-3)
    assert rate_for_power((5, 5), 0.9, 0.9) is None


def test_so_many_items_are_enough_and_half_of_them_are_not() -> None:
    n = items_for_power(0.9, 0.85, 0.9)
    assert n is not None
    assert pass_probability(0.9, n, 0.85, 0.9) >= 0.8 > pass_probability(0.9, n // 2, 0.85, 0.9)
    assert items_for_power(0.85, 0.85, 0.9) is None
    assert items_for_power(0.850001, 0.85, 0.9) is None


def test_what_cannot_be_proven_is_never_passed() -> None:
    assert pass_probability(1.0, 4, 0.9, 0.9) == 0
    assert pass_probability(0.5, 10, 0.0, 0.9) == 1


def test_newcombes_published_differences() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80, and 9/10 - 3/10.
    assert unpaired_interval((56, 70), (48, 80), 0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert unpaired_interval((9, 10), (3, 10), 0.95) == pytest.approx((0.1705, 0.8090), abs=5e-5)
