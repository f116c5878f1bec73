"""Metrics of several labels an item, against counts made by hand."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import ItemResult, Metric, Standing
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.comparison import ComparisonRule, compare
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import multi_label_metrics
from tailorbird.stats.intervals import wilson
from tailorbird.text.label_rules import join, split

UPPER, LOWER = ("sha256:" + letter * 64 for letter in "ab")
LABELS = ("billing", "delivery", "refund")
SPEC = MeasureSpec(task=TaskKind.CLASSIFY, labels=LABELS, confidence=0.9, seed=1, price_per_hour=0.0, many=True)


def item(number: int, target: str, prediction: str) -> ItemResult:
    name = "sha256:" + hashlib.sha256(str(number).encode()).hexdigest()
    return ItemResult(item=name, group=str(number), target=target, prediction=prediction, correct=target == prediction)


def metrics_of(pairs: list[tuple[str, str]]) -> dict[str, float]:
    items = [item(number, *pair) for number, pair in enumerate(pairs)]
    return {metric.name: metric.value for metric in multi_label_metrics(items, SPEC)}


def test_metrics_are_what_counting_says() -> None:
    found = metrics_of([("billing | refund", "billing"), ("none", "none"), ("delivery", "delivery | refund"), ("refund", "refund")])
    assert found["exact_match"] == 0.5
    assert found["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert found["recall[refund]"] == 0.5
    assert found["precision[refund]"] == 0.5
    assert found["f1[refund]"] == pytest.approx(0.5)
    assert found["macro_f1"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_a_label_nobody_bears_or_was_given_has_no_metrics() -> None:
    found = metrics_of([("billing", "billing"), ("none", "billing")])
    assert not {name for name in found if "refund" in name or "delivery" in name}


def test_all_right_is_still_bounded() -> None:
    items = [item(number, "billing", "billing") for number in range(20)]
    metrics = {metric.name: metric for metric in multi_label_metrics(items, SPEC)}
    assert metrics["micro_f1"].value == 1.0
    assert metrics["micro_f1"].low < 0.95
    assert metrics["micro_f1"].method == "wilson"


def test_a_rare_label_is_known_no_better_than_its_own_items() -> None:
    """Three of a label among 108 others: its F1 was proven by all 111, as if no more could be missed."""
    others = [item(number, "billing", "billing") for number in range(108)]
    rare = [item(200 + number, "billing | refund", "billing | refund") for number in range(3)]
    found = {metric.name: metric for metric in multi_label_metrics([*others, *rare], SPEC)}
    least = wilson(3, 3, 0.9)[0]
    assert found["f1[refund]"].low == pytest.approx(2 * least / (1 + least))
    assert found["f1[refund]"].low <= 2 * found["recall[refund]"].low
    assert found["f1[billing]"].low > 0.97
    assert found["macro_f1"].low < 0.85 < 0.97 < found["micro_f1"].low
    slip = [item(300, "billing", "delivery"), *others[1:], *rare]
    slipped = {metric.name: metric for metric in multi_label_metrics(slip, SPEC)}
    assert slipped["macro_f1"].low <= found["macro_f1"].low


def test_near_copies_of_one_row_prove_as_much_as_one() -> None:
    rows = [item(number, "billing", "billing") for number in range(60)]
    copies = [item(100 + number, "refund", "refund").model_copy(update={"group": "g"}) for number in range(30)]
    found = {metric.name: metric for metric in multi_label_metrics([*rows, *copies], SPEC)}
    least = wilson(1, 1, 0.9)[0]
    assert found["f1[refund]"].low == pytest.approx(2 * least / (1 + least))
    assert found["macro_f1"].low < 0.7


@pytest.mark.parametrize("of_one_group", [1, 10, 30])
def test_an_error_among_near_copies_proves_no_more_than_none(of_one_group: int) -> None:
    """All of 30 near-copies in one group right proved an F1 of 0.425, and 29 of them 0.927."""

    def found(*wrong: int) -> dict[str, Metric]:
        rows = [item(n, "billing", "refund" if n in wrong else "billing") for n in range(60)]
        for n in range(60, 90):
            answer = "none" if n in wrong else "refund"
            rows.append(item(n, "refund", answer).model_copy(update={"group": f"g{(n - 60) // of_one_group}"}))
        return {metric.name: metric for metric in multi_label_metrics(rows, SPEC)}

    perfect = found()
    for wrong in ((0,), (60,), (60, 61), (60, 89), (0, 60)):
        slipped = found(*wrong)
        for name in ("f1[refund]", "macro_f1"):
            assert slipped[name].low <= perfect[name].low
            assert slipped[name].low <= slipped[name].value <= slipped[name].high


def test_one_more_error_proves_no_more_where_items_bear_several_labels() -> None:
    """All right they counted as 20, since labels of an item are not independent, and with one slip as 60."""
    rows = [item(number, join(LABELS), join(LABELS)) for number in range(20)]
    slip = [item(0, join(LABELS), "billing | delivery"), *rows[1:]]
    perfect, slipped = ({metric.name: metric for metric in multi_label_metrics(items, SPEC)} for items in (rows, slip))
    assert slipped["macro_f1"].low <= perfect["macro_f1"].low == pytest.approx(wilson(20, 20, 0.9)[0])


_sets = st.sets(st.sampled_from(LABELS)).map(join)


@settings(max_examples=30)
@given(st.lists(st.tuples(_sets, _sets), min_size=3, max_size=25))
def test_f1_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    marks = [[[int(label in split(text)) for label in LABELS] for text in column] for column in zip(*pairs, strict=True)]
    found = metrics_of(pairs)
    some = any(any(row) for column in marks for row in column)
    assert found["micro_f1"] == pytest.approx(f1_score(*marks, average="micro", zero_division=0) if some else 1.0)


def test_f1_over_sets_compares_in_pairs() -> None:
    truth = ["billing | refund", "delivery", "none", "refund"] * 30
    upper = [item(number, target, target) for number, target in enumerate(truth)]
    lower = [item(number, target, "billing") for number, target in enumerate(truth)]
    for metric, of_lower in (("micro_f1", 2 * 30 / (120 + 120)), ("macro_f1", (2 * 30 / (30 + 120)) / 3)):
        found = compare(UPPER, LOWER, upper, lower, ComparisonRule(metric=metric, many=True))
        assert found.difference == pytest.approx(1 - of_lower)
        assert found.low <= found.difference <= found.high
        assert found.standing is Standing.BETTER
    with pytest.raises(InvalidInput):
        compare(UPPER, LOWER, upper, lower, ComparisonRule(metric="micro_f1"))
