"""Labels that are levels: how far off an answer is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import measure

HERE = Provenance(file="f.csv", line=1, origin="test", license="Apache-2.0", collected="2026", consent="none")
ORDER = ("1", "2", "3", "4", "5")
SPEC = MeasureSpec(task=TaskKind.CLASSIFY, labels=ORDER, confidence=0.9, seed=1, price_per_hour=0.0, order=ORDER)


def rows_of(targets: list[str]) -> list[Row]:
    names = [digest_bytes(str(place).encode()) for place in range(len(targets))]
    return [
        Row(id=name, text=f"text {place}", target=target, split=Split.DEV, group=name, provenance=HERE)
        for place, (name, target) in enumerate(zip(names, targets, strict=True))
    ]


def answered(rows: list[Row], answers: list[str]) -> list[Prediction]:
    return [Prediction(item=row.id, answer=answer, latency_ms=1.0) for row, answer in zip(rows, answers, strict=True)]


@given(pairs=st.lists(st.tuples(st.sampled_from(ORDER), st.sampled_from(ORDER)), min_size=1, max_size=40))
def test_the_score_is_one_less_the_mean_absolute_error_over_its_range(pairs: list[tuple[str, str]]) -> None:
    targets, answers = [target for target, _ in pairs], [answer for _, answer in pairs]
    rows = rows_of(targets)
    found, items = measure(rows, answered(rows, answers), SPEC)
    off = np.abs(np.array(targets, dtype=int) - np.array(answers, dtype=int))
    assert found["ordinal_score"].value == pytest.approx(1 - off.mean() / 4)
    assert found["within_one"].value == pytest.approx((off <= 1).mean())
    assert found["ordinal_score"].low <= found["ordinal_score"].value <= found["ordinal_score"].high
    assert found["accuracy"].value <= found["within_one"].value
    assert len(items) == len(pairs)


def test_what_is_no_level_is_as_wrong_as_can_be_and_without_an_order_nothing_is_scored() -> None:
    rows = rows_of(["5"])
    assert measure(rows, answered(rows, ["9"]), SPEC)[1][0].scores == {"ordinal_score": 0.0, "within_one": 0.0}
    assert measure(rows, answered(rows, ["4"]), replace(SPEC, order=()))[1][0].scores == {}
