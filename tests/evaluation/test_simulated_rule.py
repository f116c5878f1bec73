"""The whole rule, played with known truths, at a few settings: the benchmark plays all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "evaluation"))

from simulation import LADDERS, LAYOUTS, Layout, Pools, Stories, World, check_formulas, false_passes, listed, power, truths

from tailorbird.domain.ladder import RungKind
from tailorbird.planning.ladder import _MAKERS
from tailorbird.stats.power import HOSTED_RUNGS, RUNGS

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
    [World(60, 0.8), World(300, 0.5), World(1000, 0.9), World(300, 0.8, "clusters"), World(100, 0.95, "scores"), World(60, 0.9, "scores")],
    ids=str,
)
def test_false_passes_keep_to_five_per_cent_even_where_dev_was_fitted(world: World) -> None:
    random = np.random.default_rng(20)
    fitted, honest = (false_passes(world, 2 * SIMULATIONS, random, dev_lies=lies) for lies in (True, False))
    assert max(honest, fitted) <= 0.055
    assert honest < fitted + NOISE


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rungs", LADDERS)
def test_the_stated_value_is_released_four_times_out_of_five_however_many_rungs_lie_below(rungs: int, layout: Layout) -> None:
    world = World(300, 0.8)
    assert played(world, world.stated(rungs), rungs, layout) >= 0.8


@pytest.mark.parametrize("layout", ["spaced", "just below"])
def test_a_run_that_ended_with_its_first_look_would_lose_what_a_long_ladder_holds(layout: Layout) -> None:
    world = World(150, 0.8)
    assert played(world, world.stated_for_one(), 12, layout, goes_on=False) < 0.7
    assert played(world, world.stated(), 12, layout) >= 0.8


def test_the_longest_ladder_holds_every_rung_there_is() -> None:
    """Counted by the planner's makers, and the floor beside them; without a hosted model, they are about as many as power is stated for."""
    assert max(LADDERS) == HOSTED_RUNGS == len(_MAKERS) + 1
    assert RUNGS <= sum(kind is not RungKind.HOSTED for kind, _ in _MAKERS) + 1 <= RUNGS + 1


def test_a_listed_ladder_of_all_rungs_passes_nothing_false_and_finds_what_the_plan_states() -> None:
    random, world = np.random.default_rng(20), World(150, 0.8)
    assert listed(150, 0.8, 1500, random)["false_pass"] <= 0.055
    found = listed(150, 0.8, 400, random, last=world.stated(max(LADDERS)))
    assert found["released"] >= 0.8
    assert found["false_pass"] <= 0.055
