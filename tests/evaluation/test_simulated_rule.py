"""The whole rule, played with known truths, at a few settings: the benchmark plays all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "evaluation"))

from simulation import World, check_formulas, false_passes, power


def test_the_arrays_say_what_the_gates_functions_say() -> None:
    assert check_formulas(np.random.default_rng(1)) < 1e-12


@pytest.mark.parametrize("world", [World(60, 0.8, False), World(300, 0.5, False), World(1000, 0.9, False), World(300, 0.8, True)], ids=str)
def test_false_passes_keep_to_five_per_cent_even_where_dev_was_fitted(world: World) -> None:
    random = np.random.default_rng(20)
    fitted, honest = (false_passes(world, 4_000, random, dev_lies=lies) for lies in (True, False))
    assert honest < fitted <= 0.055


def test_the_stated_rate_passes_four_times_out_of_five() -> None:
    stated = power(World(300, 0.8, False), 10_000, np.random.default_rng(20))
    assert stated is not None
    assert stated[1] >= 0.8
