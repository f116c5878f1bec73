"""The whole rule, played with known truths, at a few settings: the benchmark plays all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "evaluation"))

from simulation import LADDERS, Layout, Pools, Stories, World, check_formulas, false_passes, listed, power, truths

SIMULATIONS = 10_000
#: Three standard errors of a difference of two shares of five per cent, each of twice as many simulations.
NOISE = 3 * (2 * 0.05 * 0.95 / (2 * SIMULATIONS)) ** 0.5


def played(world: World, last: float | None, rungs: int, layout: Layout, *, goes_on: bool = True) -> float:
    random = np.random.default_rng(20)
    assert last is not None
    pools, stories = Pools(world, SIMULATIONS, random), Stories(SIMULATIONS, random)
    return power(pools, truths(world, layout, rungs, last), world.target, stories, goes_on=goes_on)


def test_the_arrays_say_what_the_gates_functions_say() -> None:
    assert check_formulas(np.random.default_rng(1)) < 1e-12


@pytest.mark.parametrize(
    "world",
    [
        World(60, 0.8),
        World(100, 0.95, "scores"),
    ],
    ids=str,
)
def test_false_passes_keep_to_five_per_cent_even_where_dev_was_fitted(world: World) -> None:
    random = np.random.default_rng(20)
    fitted, honest = (false_passes(world, 2 * SIMULATIONS, random, dev_lies=lies) for lies in (True, False))
    assert max(honest, fitted) <= 0.055
    assert honest < fitted + NOISE


def test_a_listed_ladder_of_all_rungs_passes_nothing_false_and_finds_what_the_plan_states() -> None:
    random, world = np.random.default_rng(20), World(150, 0.8)
    assert listed(150, 0.8, 1500, random)["false_pass"] <= 0.055
    found = listed(150, 0.8, 400, random, last=world.stated(max(LADDERS)))
    assert found["released"] >= 0.8
    assert found["false_pass"] <= 0.055
