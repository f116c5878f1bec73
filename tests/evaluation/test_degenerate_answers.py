"""A candidate that answers everything alike, or never gives a label that occurs, is told of in words."""

from __future__ import annotations

import hashlib
import json

import pytest

from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import degenerate_answer_remarks


def items(pairs: list[tuple[str, str]]) -> list[ItemResult]:
    names = ["sha256:" + hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(pairs))]
    return [
        ItemResult(item=name, group=name, target=target, prediction=answer, correct=target == answer)
        for name, (target, answer) in zip(names, pairs, strict=True)
    ]


def told(pairs: list[tuple[str, str]], kind: str = "classify", *, many: bool = False) -> tuple[str, ...]:
    spec = MeasureSpec(task=TaskKind(kind), labels=("a", "b", "c"), confidence=0.9, seed=1, price_per_hour=0.0, many=many)
    return degenerate_answer_remarks(items(pairs), spec)


@pytest.mark.parametrize(
    ("pairs", "kind", "many", "remarks"),
    [
        ([("a", "b"), ("b", "b"), ("c", "b")] * 4, "classify", False, 2),
        ([("none", "none")] * 18 + [("a | b", "none"), ("b", "none")], "classify", True, 2),
        ([("a", "b")] * 50 + [("b", "b")] * 49 + [("a", "a")], "classify", False, 1),
        ([(json.dumps({f"d{n}": 1}), "d") for n in range(5)], "rank", False, 1),
    ],
)
def test_answers_that_are_all_alike_are_remarked_on(pairs: list[tuple[str, str]], kind: str, many: bool, remarks: int) -> None:
    assert len(told(pairs, kind, many=many)) == remarks


def test_one_text_for_everything_is_not_quoted() -> None:
    (said,) = told([(f"text {n}", "secret") for n in range(9)], "generate")
    assert "secret" not in said


@pytest.mark.parametrize(
    ("pairs", "kind", "many"),
    [
        ([("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")], "classify", False),
        ([("none", "none")] * 95 + [("a", "a")] * 3 + [("a", "none")] * 2, "classify", True),
        ([("x", "x"), ("y", "z")], "generate", False),
    ],
)
def test_answers_that_tell_apart_are_not_remarked_on(pairs: list[tuple[str, str]], kind: str, many: bool) -> None:
    assert told(pairs, kind, many=many) == ()
