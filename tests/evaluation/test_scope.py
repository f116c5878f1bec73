"""Both errors of a rule, the area, and labels left out of what may be answered."""

from __future__ import annotations

import math

import pytest

from support.rungs import make_rows
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.evidence import Prediction, ScopeRule, ScopeScorer
from tailorbird.evaluation.scope import scope_metrics, trial_by_columns
from tailorbird.release.gate import interval_at
from tailorbird.stats.roc import ScoredRows

SCORER = ScopeScorer.MARGIN


def scored(scores: list[float], groups: str = "") -> ScoredRows:
    return ScoredRows([{SCORER: score} for score in scores], list(groups or map(str, range(len(scores)))))


def test_both_errors_and_the_area_are_told_with_intervals() -> None:
    known, outside = scored([0.5, 2.0, 3.0, 4.0]), scored([0.1, 0.2, 2.5], "aab")
    found = {each.name: each for each in scope_metrics(ScopeRule(scorer=SCORER, refuse_below=1.0), known, outside, 0.9)}
    assert {name: each.value for name, each in found.items()} == {
        "known_refused": 0.25,
        "out_of_scope_answered": pytest.approx(1 / 3),
        "out_of_scope_auroc": pytest.approx(10 / 12),
    }
    assert (found["known_refused"].hits, found["known_refused"].n) == (1, 4)
    assert found["out_of_scope_answered"].method == "wilson-clustered"
    area = found["out_of_scope_auroc"]
    low, high = interval_at(area, 0.99)
    assert low < area.low < area.value < area.high < high


def test_rows_whose_label_may_not_be_answered_stand_for_what_is_out_of_scope() -> None:
    labels = ("a", "b", "c", "d")
    predictions, rows = [], []
    for number in range(40):
        sure = labels[number % 4]
        chances = {label: math.log(0.85 if label == sure else 0.05) for label in labels}
        row = make_rows(1)[0].model_copy(update={"id": digest_of({"row": number}), "target": sure, "group": f"g{number}"})
        predictions.append(Prediction(item=row.id, answer=sure, log_probabilities=chances, scope={ScopeScorer.ENERGY: -1.0}))
        rows.append(row)
    found = trial_by_columns(labels, predictions, rows, 0.9)
    assert found is not None
    assert (found.by, found.folds, found.known, found.outside) == ("labels", 4, 30, 40)
    assert {trial.scorer: trial.auroc for trial in found.scorers} == {
        ScopeScorer.PROBABILITY: 1.0,
        ScopeScorer.MARGIN: 1.0,
        ScopeScorer.ENERGY: 1.0,
    }
    without = [each.model_copy(update={"scope": {}}) for each in predictions]
    fewer = trial_by_columns(labels, without, rows, 0.9)
    assert fewer is not None
    assert ScopeScorer.ENERGY not in [trial.scorer for trial in fewer.scorers]
