"""Metrics of generated text."""

from __future__ import annotations

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.evaluation import MeasureSpec, measure
from tailorbird.evaluation.generation import has_form, is_refusal


@pytest.mark.parametrize(
    "answer", ["I'm sorry, but I can't help with that.", "I cannot do this.", "As an AI language model, I ...", "Sorry – no."]
)
def test_refusals_are_seen(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize("answer", ["The customer says: I cannot log in.", "Your order is on its way.", "", "Sort the list by date."])
def test_answers_that_only_speak_of_it_are_none(answer: str) -> None:
    assert not is_refusal(answer)


def test_the_form_of_an_answer() -> None:
    ticket = AnswerFormat(json_keys=("queue", "urgent"))
    assert has_form(' {"queue": "a", "urgent": true}\n', ticket)
    assert not has_form('{"queue": "a"}', ticket)
    assert not has_form('["queue", "urgent"]', ticket)
    assert not has_form("queue: a", ticket)
    assert not has_form("[" * 100_000, ticket)
    assert has_form("TICKET-17", AnswerFormat(pattern=r"TICKET-\d+"))
    assert not has_form("see TICKET-17", AnswerFormat(pattern=r"TICKET-\d+"))


def test_generated_answers_are_measured_by_all_that_applies() -> None:
    place = Provenance(file="f", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")
    rows = [
        Row(id=digest_bytes(bytes([n])), text="t", target='{"a": 1}', group=f"g{n}", split=Split.DEV, provenance=place) for n in range(4)
    ]
    spec = MeasureSpec(TaskKind.GENERATE, (), 0.9, 3, 0.1, form=AnswerFormat(json_keys=("a",)))
    said = ['{"a": 1}', "I cannot say.", '{"b": 1}', '{"a": 2}']
    plain = [Prediction(item=row.id, answer=answer, prompt_tokens=5, completion_tokens=2) for row, answer in zip(rows, said, strict=True)]
    found, items = measure(rows, plain, spec)
    assert found["format_valid"].hits == 2
    assert found["refusal_rate"].hits == 1
    assert found["tokens_per_request"].value == 7
    assert "groundedness" not in found
    assert "rouge_l" in items[0].scores
    shown = [one.model_copy(update={"passages": ("a 1 b",)}) for one in plain]
    grounded = measure(rows, shown, spec)[0]["groundedness"]
    assert 0 < grounded.low <= grounded.value <= grounded.high < 1
