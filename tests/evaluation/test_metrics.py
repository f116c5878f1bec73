"""Metrics against scikit-learn, their intervals against simulation, and what must not change them."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import Metric, Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import measure
from tailorbird.stats.intervals import wilson

LABELS = ("delivery", "invoice", "refund")
SPEC = MeasureSpec(task=TaskKind.CLASSIFY, labels=LABELS, confidence=0.90, seed=3, price_per_hour=0.10)
PLACE = Provenance(file="f.csv", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")


def row(number: int, target: str, group: str | None = None) -> Row:
    name = digest_bytes(str(number).encode())
    return Row(id=name, text=f"message {number}", target=target, group=group or name, split=Split.DEV, provenance=PLACE)


def prediction(of: Row, answer: str, sure: float = 0.8, share: float = 10.0, request: float | None = None) -> Prediction:
    others = math.log((1 - sure) / (len(LABELS) - 1))
    scores = {label: math.log(sure) if label == answer else others for label in LABELS}
    return Prediction(item=of.id, answer=answer, log_probabilities=scores, latency_ms=share, request_ms=request)


def measured(targets: list[str], answers: list[str], groups: list[str] | None = None, spec: MeasureSpec = SPEC) -> dict[str, Metric]:
    rows = [row(i, target, groups[i] if groups else None) for i, target in enumerate(targets)]
    return measure(rows, [prediction(r, a) for r, a in zip(rows, answers, strict=True)], spec)[0]


pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=2, max_size=60)


@given(pairs)
def test_values_agree_with_scikit_learn(drawn: list[tuple[str, str]]) -> None:
    targets, answers = [t for t, _ in drawn], [a for _, a in drawn]
    found = measured(targets, answers)
    assert found["accuracy"].value == pytest.approx(oracle.accuracy_score(targets, answers))
    assert found["macro_f1"].value == pytest.approx(oracle.f1_score(targets, answers, labels=sorted(set(targets)), average="macro"))
    recalls = oracle.recall_score(targets, answers, labels=LABELS, average=None, zero_division=0)
    precisions = oracle.precision_score(targets, answers, labels=LABELS, average=None, zero_division=0)
    assert found["balanced_accuracy"].value == pytest.approx(
        np.mean([r for label, r in zip(LABELS, recalls, strict=True) if label in targets])
    )
    for i, label in enumerate(LABELS):
        assert (f"recall[{label}]" in found) == (label in targets)
        assert (f"precision[{label}]" in found) == (label in answers)
        if label in targets:
            assert found[f"recall[{label}]"].value == pytest.approx(recalls[i])
        if label in answers:
            assert found[f"precision[{label}]"].value == pytest.approx(precisions[i])
    for metric in found.values():
        assert metric.low <= metric.value <= metric.high


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_items_changes_nothing(drawn: list[tuple[str, str]], order: Random) -> None:
    rows = [row(i, target, group=f"g{i // 2}") for i, (target, _) in enumerate(drawn)]
    predictions = [prediction(r, answer) for r, (_, answer) in zip(rows, drawn, strict=True)]
    expected = measure(rows, predictions, SPEC)
    order.shuffle(rows)
    order.shuffle(predictions)
    assert measure(rows, predictions, SPEC) == expected


def test_intervals_are_wilsons_and_carry_their_counts() -> None:
    found = measured(["refund"] * 50 + ["invoice"] * 50, ["refund"] * 45 + ["invoice"] * 55)
    accuracy, recall = found["accuracy"], found["recall[refund]"]
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(95, 100, 0.90))
    assert (accuracy.hits, accuracy.n, accuracy.method, accuracy.confidence) == (95, 100, "wilson", 0.90)
    assert (recall.hits, recall.n) == (45, 50)
    assert (found["precision[invoice]"].hits, found["precision[invoice]"].n) == (50, 55)


def test_shared_groups_widen_every_interval() -> None:
    generator = np.random.default_rng(1)
    targets = [LABELS[i % 3] for i in range(40) for _ in range(6)]
    answers = [t if right else "refund" for t, right in zip(targets, np.repeat(generator.random(40) < 0.7, 6), strict=True)]
    alone, grouped = measured(targets, answers), measured(targets, answers, [f"g{i // 6}" for i in range(240)])
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "recall[invoice]"):
        assert grouped[name].value == pytest.approx(alone[name].value)
        assert grouped[name].high - grouped[name].low > 1.5 * (alone[name].high - alone[name].low)
    assert grouped["accuracy"].method == "wilson-clustered"
    assert grouped["accuracy"].hits is None


def test_all_right_still_leaves_doubt() -> None:
    found = measured(list(LABELS) * 10, list(LABELS) * 10)
    for name in ("macro_f1", "balanced_accuracy"):
        assert found[name].value == 1
        assert (found[name].low, found[name].high) == pytest.approx(wilson(30, 30, 0.90))
    # A class with two items weighs as much as one with fifty, and is known far less well.
    uneven = measured(["refund"] * 50 + ["invoice"] * 2, ["refund"] * 50 + ["invoice"] * 2)
    assert uneven["macro_f1"].low < wilson(8, 8, 0.90)[0]


def test_a_worse_candidate_is_not_known_better_where_a_label_is_rare() -> None:
    """All of three right, and one slip elsewhere: by the slip the draws differed, by the three they did not, so that the mean of
    recalls was proven to reach 0.98, where without the slip it reached 0.84."""
    targets = ["refund"] * 108 + ["invoice"] * 3
    perfect, slipped = measured(targets, targets), measured(targets, ["invoice", *targets[1:]])
    for name in ("balanced_accuracy", "macro_f1"):
        assert slipped[name].low < perfect[name].low < 0.9
        assert slipped[name].low <= slipped[name].value <= slipped[name].high


@pytest.mark.parametrize(
    "of_one_group",
    [
        1,
        10,
    ],
)
def test_an_error_among_near_copies_proves_no_more_than_none(of_one_group: int) -> None:
    """All of 30 near-copies in one group right proved 0.593, and 29 of them 0.939: by the slip they counted as 30."""
    targets = ["delivery"] * 60 + ["refund"] * 30
    groups = [f"d{n}" for n in range(60)] + [f"r{n // of_one_group}" for n in range(30)]
    perfect = measured(targets, targets, groups)
    for wrong in ((0,), (60,), (89,), (60, 61), (60, 89), (0, 60), (60, 75, 89)):
        slipped = measured(targets, ["invoice" if n in wrong else target for n, target in enumerate(targets)], groups)
        for name in ("balanced_accuracy", "macro_f1"):
            assert slipped[name].low <= perfect[name].low
            assert slipped[name].low <= slipped[name].value <= slipped[name].high


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, 3)), min_size=20, max_size=60), st.sets(st.integers(0, 19), max_size=3))
@settings(max_examples=12)
def test_few_errors_prove_no_more_than_none(drawn: list[tuple[str, int]], wrong: set[int]) -> None:
    targets, groups = [target for target, _ in drawn], [f"{target}{group}" for target, group in drawn]
    answers = [LABELS[LABELS.index(target) - 1] if n in wrong else target for n, target in enumerate(targets)]
    perfect, found = measured(targets, targets, groups), measured(targets, answers, groups)
    for name in ("balanced_accuracy", "macro_f1"):
        assert found[name].low <= perfect[name].low + 1e-12


def test_log_loss_is_the_mean_surprise_at_the_target() -> None:
    found = measured(["refund", "refund", "invoice", "delivery"], ["refund", "refund", "invoice", "refund"])
    assert found["log_loss"].value == pytest.approx((3 * -math.log(0.8) - math.log(0.1)) / 4)


def test_bootstrap_intervals_cover_the_truth() -> None:
    """Macro-F1 of a known confusion: three classes, each right with chance 0.85, errors spread evenly, so that true macro-F1 is 0.85."""
    generator, inside = np.random.default_rng(21), 0
    for run in range(60):
        targets = list(LABELS) * 40
        wrong = generator.random(120) >= 0.85
        answers = [LABELS[(LABELS.index(t) + generator.integers(1, 3)) % 3] if w else t for t, w in zip(targets, wrong, strict=True)]
        metric = measured(targets, answers, spec=MeasureSpec(TaskKind.CLASSIFY, LABELS, 0.90, run, 0.1))["macro_f1"]
        inside += metric.low <= 0.85 <= metric.high
    assert inside >= 49
