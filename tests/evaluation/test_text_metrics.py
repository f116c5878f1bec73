"""ROUGE-L and chrF against what the field's libraries say; the form of answers, refusals, groundedness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.evaluation import MeasureSpec, measure
from tailorbird.evaluation.generation import has_form, is_refusal
from tailorbird.text.text_metrics import chrf, rouge_l, token_f1, word_precision

#: Written by scripts/overlap_oracle.py with rouge-score 0.1.2 and sacrebleu 2.5.1.
ORACLE = json.loads((Path(__file__).parent / "overlap_oracle.json").read_text(encoding="utf-8"))
WORDS = st.text(alphabet="abc é1 .", max_size=30)


@pytest.mark.parametrize("row", ORACLE, ids=lambda row: row["answer"][:20])
def test_overlaps_agree_with_the_libraries(row: dict[str, str]) -> None:
    assert rouge_l(row["answer"], row["target"]) == pytest.approx(row["rouge_l"], abs=1e-9)
    assert chrf(row["answer"], row["target"]) == pytest.approx(row["chrf"], abs=1e-9)


@given(WORDS, WORDS)
def test_overlaps_are_shares_and_1_for_the_same_text(one: str, other: str) -> None:
    for overlap in (rouge_l, chrf, token_f1, word_precision):
        assert 0 <= overlap(one, other) <= 1 + 1e-12
        assert overlap(one, one) == pytest.approx(1)


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
