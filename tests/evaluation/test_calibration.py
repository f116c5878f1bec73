"""Thresholds found where they were planted; calibration of models that know what they know, and of those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.calibration import answered, referral_threshold, reliability, risk_coverage_curve
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import metrics_of
from tailorbird.text.label_rules import LabelDecision, is_referred

SPEC = MeasureSpec(TaskKind.CLASSIFY, ("a", "b"), 0.9, 3, 0.1)


def items(said: list[float], right: list[bool]) -> tuple[ItemResult, ...]:
    names = [digest_bytes(str(n).encode()) for n in range(len(said))]
    return tuple(
        ItemResult(
            item=name, group=name, target="a", prediction="a" if ok else "b", correct=ok, confidence=sure, scores={"brier": 1 - sure}
        )
        for name, sure, ok in zip(names, said, right, strict=True)
    )


def drawn(n: int, seed: int, honest: bool) -> tuple[ItemResult, ...]:
    generator = np.random.default_rng(seed)
    said = generator.uniform(0.5, 1.0, n)
    right = generator.uniform(size=n) < (said if honest else 0.6)
    return items(said.tolist(), right.tolist())


def test_the_threshold_is_where_errors_end() -> None:
    found = items([0.55] * 100 + [0.95] * 300, [False] * 50 + [True] * 50 + [True] * 300)
    assert referral_threshold(found, 0.05, 0.9) == 0.56
    assert len(answered(found, 0.56)) == 300


def test_where_no_threshold_will_do_it_comes_as_near_as_it_can() -> None:
    found = items([0.6] * 50 + [0.9] * 50, [False] * 25 + [True] * 25 + [True] * 40 + [False] * 10)
    assert referral_threshold(found, 0.01, 0.9) == 0.61


def test_the_curve_falls_in_coverage_and_ends_where_nothing_is_answered() -> None:
    points = list(risk_coverage_curve(drawn(500, 1, honest=True), 0.9))
    shares = [point.coverage for point in points]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert points[0].risk is not None
    assert points[-1].risk is None or points[-1].risk < points[0].risk


def test_coverage_and_risk_are_measured_only_where_something_may_be_referred() -> None:
    found = drawn(400, 2, honest=True)
    assert "coverage" not in metrics_of(found, SPEC)
    from dataclasses import replace

    metrics = metrics_of(found, replace(SPEC, refer_below=0.8))
    given = answered(found, 0.8)
    assert metrics["coverage"].hits == len(given) == metrics["selective_risk"].n
    assert metrics["selective_risk"].value < 1 - metrics["accuracy"].value
    nothing = metrics_of(found, replace(SPEC, refer_below=1.01))
    assert nothing["coverage"].value == 0
    assert "selective_risk" not in nothing


def test_a_referred_answer_is_one_below_the_threshold() -> None:
    found = LabelDecision("a", {"a": 0.7, "b": 0.3})
    assert is_referred(found, 0.71)
    assert not is_referred(found, 0.7)
    assert not is_referred(found, None)


def test_an_honest_model_is_better_calibrated_than_a_bold_one() -> None:
    honest, bold = (metrics_of(drawn(2000, 3, honest=honest), SPEC)["ece"] for honest in (True, False))
    assert honest.high < 0.06
    assert bold.low > 0.1


def test_bins_hold_every_item_once() -> None:
    found = drawn(333, 4, honest=True)
    bins = reliability(found)
    assert sum(one.n for one in bins) == 333
    assert [one.said for one in bins] == sorted(one.said for one in bins)
    assert max(one.n for one in bins) - min(one.n for one in bins) <= 1


def test_without_probabilities_nothing_is_said_of_them() -> None:
    found = tuple(item.model_copy(update={"confidence": None, "scores": {}}) for item in drawn(100, 5, honest=True))
    metrics = metrics_of(found, SPEC)
    assert not {"ece", "brier"} & metrics.keys()
    assert reliability(found) == ()


def test_too_few_items_have_no_ece() -> None:
    assert "ece" not in metrics_of(drawn(39, 6, honest=True), SPEC)
    assert metrics_of(drawn(40, 6, honest=True), SPEC)["ece"].n == 40


def test_an_ece_without_spread_still_has_an_interval() -> None:
    metric = metrics_of(items([1.0] * 60, [True] * 60), SPEC)["ece"]
    assert metric.value == pytest.approx(0)
    assert metric.high > 0.02
