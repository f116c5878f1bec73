"""From which probability a label is given: found again where it is known, and left at a half where nothing says otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tailorbird.rungs.label_thresholds import FEWEST, GOALS, GRID, fitting_threshold
from tailorbird.text.label_decision import THRESHOLD


def test_rare_labels_whose_probabilities_never_reach_a_half_are_given() -> None:
    """Nine items in ten bear nothing, and a label that is borne has a probability of 0.2."""
    borne = np.zeros((100, 2), dtype=bool)
    borne[:10, 0] = True
    probabilities = np.where(borne, 0.2, 0.02)
    bound = fitting_threshold(probabilities, borne, "micro_f1")
    assert 0.02 < bound < 0.2
    assert ((probabilities >= bound) == borne).all()
    assert bound == pytest.approx(0.07, abs=0.03), "between the two, far from both"


def test_a_half_stays_where_it_is_as_good_as_any() -> None:
    borne = np.eye(6, dtype=bool)
    assert fitting_threshold(np.where(borne, 0.97, 0.01), borne, "micro_f1") == THRESHOLD


def test_too_few_labels_tell_nothing() -> None:
    borne = np.zeros((50, 3), dtype=bool)
    borne[: FEWEST - 1, 0] = True
    assert fitting_threshold(np.where(borne, 0.2, 0.02), borne, "micro_f1") == THRESHOLD


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3), min_size=2, max_size=20))
def test_f1_is_that_of_scikit_learn(pairs: list[list[tuple[bool, bool]]]) -> None:
    marks = np.array(pairs)
    given_NK, borne_NK = marks[..., 0], marks[..., 1]
    marked_NK = borne_NK.astype(float)
    if (given_NK | borne_NK).any(axis=0).all():
        assert GOALS["micro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="micro", zero_division=0.0))
        assert GOALS["macro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="macro", zero_division=0.0))
    assert GOALS["exact_match"](given_NK, marked_NK) == (given_NK == borne_NK).all(axis=1).mean()


def drawn(seed: int, rows: int, shift: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rare labels, true to their probabilities; then the log-odds that a model tells are shifted."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(-4, 2, size=(rows, 5))
    borne = generator.random(odds.shape) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-odds - shift)), borne


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_few_rows_suffice_however_far_off_the_probabilities_are(shift: float) -> None:
    """Chosen on 80 rows, on average over draws, it costs little of the F1 that the best threshold has on many others."""
    others, theirs = drawn(1, 20_000, shift)
    best = max(GOALS["micro_f1"](others >= bound, theirs.astype(float)) for bound in GRID)
    bounds = [fitting_threshold(*drawn(seed, 80, shift), "micro_f1") for seed in range(40)]
    assert np.mean([GOALS["micro_f1"](others >= bound, theirs.astype(float)) for bound in bounds]) > best - 0.02
