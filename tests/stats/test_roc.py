"""The area under the ROC curve against scikit-learn's, its interval, and the threshold that keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tailorbird.domain.evidence import ScopeScorer
from tailorbird.stats.roc import ScoredRows, auroc, auroc_interval, compare_scorers, fewest_to_refuse, refusal_threshold


@pytest.mark.parametrize("digits", [0, 6])
def test_the_area_is_that_of_the_library_with_and_without_ties(digits: int) -> None:
    random = np.random.default_rng(digits)
    above, below = random.normal(1, 1, 90).round(digits), random.normal(0, 1, 40).round(digits)
    said = roc_auc_score([1] * 90 + [0] * 40, np.concatenate([above, below]))
    assert auroc(above, below) == pytest.approx(said, abs=1e-12)


def test_the_interval_covers_what_is_true_and_never_shrinks_to_a_point() -> None:
    random, covered = np.random.default_rng(7), 0
    true = 0.7602499389  # Φ(1 / √2), of two normal distributions that are one standard deviation apart
    for _ in range(300):
        above, below = random.normal(1, 1, 60), random.normal(0, 1, 45)
        low, high = auroc_interval(auroc(above, below), list(map(str, range(60))), list(map(str, range(45))), 0.9)
        covered += low <= true <= high
    assert covered >= 270
    low, high = auroc_interval(1.0, ["a", "b", "c"], ["d", "e"] * 20, 0.9)
    assert low < 0.5 < high == 1.0, "forty rows of two groups are worth two"


def test_a_threshold_keeps_its_promise_on_rows_of_other_groups() -> None:
    """Ten rows of each of forty groups are nearly alike: counted by rows they would promise too much."""
    random, shares = np.random.default_rng(3), []
    for _ in range(200):
        means = np.repeat(random.normal(0, 1, 40), 10)
        rows = ScoredRows(
            [{ScopeScorer.PROBABILITY: score} for score in means + random.normal(0, 0.01, 400)], [str(n // 10) for n in range(400)]
        )
        bound = refusal_threshold(rows.of_groups().by(ScopeScorer.PROBABILITY), 0.05)
        assert bound is not None
        shares.append(float((random.normal(0, 1, 2_000) < bound).mean()))
    assert np.mean(shares) <= 0.055


def test_the_scorer_that_tells_best_is_found_and_of_equals_the_first() -> None:
    def rows(margin: float, energy: float) -> dict[ScopeScorer, float]:
        return {ScopeScorer.PROBABILITY: 0.5, ScopeScorer.MARGIN: margin, ScopeScorer.ENERGY: energy}

    known = ScoredRows([rows(2.0, 2.0), rows(3.0, 3.0)], ["a", "b"])
    outside = ScoredRows([rows(1.0, 1.0) | {ScopeScorer.NEARNESS: 0.1}], ["c"])
    found = compare_scorers("examples", [(known, outside)], 0.9)
    assert found is not None
    assert [(trial.scorer.value, trial.auroc) for trial in found.scorers] == [("probability", 0.5), ("margin", 1.0), ("energy", 1.0)]
    assert found.best.scorer is ScopeScorer.MARGIN
    assert (found.known, found.outside, found.folds) == (2, 1, 0)
    assert compare_scorers("examples", [(known, ScoredRows([], []))], 0.9) is None


@pytest.mark.parametrize(
    "at_most",
    [
        0.05,
    ],
)
def test_a_further_row_is_refused_no_more_often_than_stated(at_most: float) -> None:
    """By simulation, with as few rows as allow a threshold and with some more."""
    random, fewest = np.random.default_rng(3), fewest_to_refuse(at_most)
    for rows in (fewest, fewest + 30):
        thresholds = np.array([refusal_threshold(random.exponential(1.0, rows), at_most) for _ in range(4000)], dtype=float)
        assert (1 - np.exp(-thresholds)).mean() <= at_most + 0.004
    assert refusal_threshold(np.arange(fewest - 1.0), at_most) is None
