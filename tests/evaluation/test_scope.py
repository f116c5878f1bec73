"""Both errors of a rule, the area, and labels left out of what may be answered."""

from __future__ import annotations

import math

import pytest

from support.rungs import make_rows
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.evidence import Prediction, ScopeRule, ScopeScorer
from tailorbird.evaluation.scope import scope_metrics, scope_points, trial_by_columns
from tailorbird.release.gate import interval_at
from tailorbird.stats.roc import ScoredRows, refusal_threshold

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


def test_without_examples_only_what_was_refused_wrongly_is_measured() -> None:
    rule, known = ScopeRule(scorer=SCORER, refuse_below=1.0), scored([0.5, 2.0])
    assert [each.name for each in scope_metrics(rule, known, scored([]), 0.9)] == ["known_refused"]
    assert scope_points(SCORER, known, scored([])) == ()


def test_other_thresholds_are_told_beside() -> None:
    points = scope_points(SCORER, scored([float(place) for place in range(100)]), scored([3.0, 50.0]))
    assert [point.known_refused for point in points] == [0.0, 0.01, 0.04, 0.09, 0.19]
    assert [point.out_of_scope_answered for point in points] == [1.0, 1.0, 0.5, 0.5, 0.5]


def test_thresholds_beside_are_set_by_groups_as_the_rule_is() -> None:
    """One group of fifty bad rows is one bad group of fifty-one."""
    known = ScoredRows([{SCORER: 0.0}] * 50 + [{SCORER: float(place)} for place in range(1, 51)], ["one"] * 50 + list(map(str, range(50))))
    points = scope_points(SCORER, known, scored([0.0]))
    rule = refusal_threshold(known.of_groups().by(SCORER), 0.1)
    assert rule == 4.0
    assert rule in {point.refuse_below for point in points}
    assert max(point.refuse_below for point in points) == 9.0


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


def test_rows_of_one_group_speak_as_one_where_labels_are_left_out() -> None:
    labels = ("a", "b", "c", "d")
    rows = [row.model_copy(update={"target": labels[place % 4]}) for place, row in enumerate(make_rows(200))]
    told = [
        Prediction(item=row.id, answer="a", log_probabilities={label: math.log(0.7 if label == row.target else 0.1) for label in labels})
        for row in rows
    ]
    grouped = [row.model_copy(update={"group": f"g{place // 20}"}) for place, row in enumerate(rows)]
    apart, alike = (trial_by_columns(labels, told, each, 0.9) for each in (rows, grouped))
    assert apart is not None
    assert alike is not None
    assert apart.best.auroc == alike.best.auroc
    assert alike.best.low < apart.best.low - 0.1
