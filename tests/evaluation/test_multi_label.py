"""Metrics of several labels an item, against counts made by hand."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import multi_label_metrics
from tailorbird.stats.intervals import wilson
from tailorbird.text.label_rules import join, split

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


_sets = st.sets(st.sampled_from(LABELS)).map(join)


@given(st.lists(st.tuples(_sets, _sets), min_size=3, max_size=25))
def test_f1_agrees_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    marks = [[[int(label in split(text)) for label in LABELS] for text in column] for column in zip(*pairs, strict=True)]
    found = metrics_of(pairs)
    some = any(any(row) for column in marks for row in column)
    assert found["micro_f1"] == pytest.approx(f1_score(*marks, average="micro", zero_division=0) if some else 1.0)
