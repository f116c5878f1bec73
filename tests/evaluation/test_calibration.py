"""Thresholds found where they were planted; calibration of models that know what they know, and of those that do not."""

from __future__ import annotations

import numpy as np

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.calibration import answered, referral_threshold
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import metrics_of

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


def test_an_honest_model_is_better_calibrated_than_a_bold_one() -> None:
    honest, bold = (metrics_of(drawn(2000, 3, honest=honest), SPEC)["ece"] for honest in (True, False))
    assert honest.high < 0.06
    assert bold.low > 0.1
