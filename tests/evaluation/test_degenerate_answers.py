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


def test_one_label_for_everything() -> None:
    assert told([("a", "b"), ("b", "b"), ("c", "b")] * 4) == (
        "answers 'b' to all 12 items, which is right for 4",
        "never gives 2 of the 3 labels that occur: 'a' (4 items), 'c' (4 items)",
    )


def test_answers_without_a_label() -> None:
    unnamed, missing = told([("a", ""), ("b", "")] * 6)
    assert unnamed == "writes 12 of 12 answers in which no label can be read, or more than one"
    assert missing.startswith("never gives 2 of the 2 labels")
    assert told([("a", "a"), ("b", "b"), ("a", "")])[0] == "writes 1 of 3 answers in which no label can be read, or more than one"


def test_the_empty_set_for_everything() -> None:
    one, missing = told([("none", "none")] * 18 + [("a | b", "none"), ("b", "none")], many=True)
    assert one == "gives no label to all 20 items, which is right for 18"
    assert missing == "never gives 2 of the 2 labels that occur: 'b' (2 items), 'a' (1 item)"


def test_nearly_everything_alike() -> None:
    assert told([("a", "b")] * 50 + [("b", "b")] * 49 + [("a", "a")])[0] == "answers 'b' to 99 of 100 items, which is right for 49"


def test_one_text_for_everything_is_not_quoted() -> None:
    assert told([(f"text {n}", "secret") for n in range(9)], "generate") == ("writes the same text for all 9 items, which is right for 0",)


@pytest.mark.parametrize(("document", "said"), [("d", "puts the same document first for"), ("", "finds no document for")])
def test_one_document_for_every_question(document: str, said: str) -> None:
    [one] = told([(json.dumps({f"d{n}": 1}), document) for n in range(5)], "rank")
    assert one == f"{said} all 5 items, which is right for 0"


@pytest.mark.parametrize(
    ("pairs", "kind", "many"),
    [
        ([("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")], "classify", False),
        ([("a", "a")] * 5, "classify", False),
        ([("none", "none")] * 95 + [("a", "a")] * 3 + [("a", "none")] * 2, "classify", True),
        ([("x", "x"), ("y", "z")], "generate", False),
        ([(json.dumps({"d": 1}), "d")] * 3, "rank", False),
    ],
)
def test_answers_that_tell_apart_are_not_remarked_on(pairs: list[tuple[str, str]], kind: str, many: bool) -> None:
    assert told(pairs, kind, many=many) == ()


def test_what_is_never_wrong_is_told_where_items_are_many() -> None:
    right = [("a", "a"), ("b", "b")]
    assert told(right * 14) == ()
    (said,) = told(right * 15)
    assert said.startswith("is right about all 30 items, which may be a leak")
    assert told([*right * 20, ("a", "b")]) == ()
