"""Metrics of generated text."""

from __future__ import annotations

import pytest

from support.tools import TOOLS
from tailorbird.chat.conversations import fold_answer, fold_turns
from tailorbird.chat.tool_calls import arguments_text, tools_text
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.domain.prompt import Message, ToolCall
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import has_form, is_refusal, is_same_answer, measure, tool_call_score

PLACE = Provenance(file="f", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")


def test_refusals_are_told_from_answers_that_only_speak_of_them() -> None:
    assert all(map(is_refusal, ("I'm sorry, but I can't help with that.", "I cannot do this.", "As an AI language model, I ...")))
    assert not any(map(is_refusal, ("The customer says: I cannot log in.", "Your order is on its way.", "")))


def test_the_form_of_an_answer() -> None:
    ticket = AnswerFormat(json_keys=("queue", "urgent"))
    assert has_form(' {"queue": "a", "urgent": true}\n', ticket)
    assert not has_form('{"queue": "a"}', ticket)
    assert not has_form('["queue", "urgent"]', ticket)
    assert not has_form("queue: a", ticket)
    assert not has_form("[" * 100_000, ticket)
    assert has_form("TICKET-17", AnswerFormat(pattern=r"TICKET-\d+"))
    assert not has_form("see TICKET-17", AnswerFormat(pattern=r"TICKET-\d+"))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{\n  "sum": 1200.0,\n  "due": null,\n  "insurer": "ALPHA"\n}\n', True),
        ('{"insurer": "Alpha", "sum": "1200", "due": null}', False),
    ],
)
def test_json_is_right_by_what_it_says_where_it_is_asked_for(answer: str, right: bool) -> None:
    """A prompt that answers rightly, with other spaces than the data's, had an exact match of 0."""
    due = '{"insurer": "Alpha", "sum": 1200, "due": null}'
    assert is_same_answer(answer, due, AnswerFormat(json_keys=("insurer",))) is right
    assert not is_same_answer(answer, due)
    assert not is_same_answer('{"p": "102 bar"}', '{"p": "10² bar"}', AnswerFormat(json_keys=("p",)))
    assert not is_same_answer("102 bar", "10² bar")


def test_answers_that_hand_over_are_held_against_what_is_for_people() -> None:
    wanted = ["a colleague will write", "a colleague will write", "12 euros", "9 euros", "7 euros"]
    said = ["Sorry! A colleague will call, a colleague will write.", "9 euros", "a colleague will write", "9 euros", "7 euros"]
    rows = [
        Row(id=digest_bytes(bytes([n])), text="t", target=target, group=f"g{n}", split=Split.DEV, provenance=PLACE)
        for n, target in enumerate(wanted)
    ]
    answers = [Prediction(item=row.id, answer=answer) for row, answer in zip(rows, said, strict=True)]
    spec = MeasureSpec(TaskKind.GENERATE, (), 0.9, 3, 0.1, refer_pattern="a colleague will")
    found = measure(rows, answers, spec)[0]
    assert (found["coverage"].hits, found["coverage"].n) == (3, 5)
    assert (found["referral_recall"].hits, found["referral_recall"].n) == (1, 2)
    assert (found["referral_precision"].hits, found["referral_precision"].n) == (1, 2)
    alone = measure(rows[2:], [one.model_copy(update={"answer": "9 euros"}) for one in answers[2:]], spec)[0]
    assert alone["coverage"].value == 1
    assert not {"referral_recall", "referral_precision"} & alone.keys()


def called(name: str, arguments: str) -> str:
    return fold_answer(Message(role="assistant", content="", tool_calls=(ToolCall(name=name, arguments=arguments_text(arguments)),)))


def test_calls_are_compared_by_name_and_arguments() -> None:
    due = called("get_order", '{"id": "7", "n": 2}')
    asked = fold_turns([Message(role="user", content="Where is it?", tools=tools_text(TOOLS))])
    for made, right in (
        (called("get_order", '{"n":2.0,"id":"7"}'), 1.0),
        (called("get_order", '{"id": "8", "n": 2}'), 0.0),
        (called("get_invoice", '{"id": "7", "n": 2}'), 0.0),
        ("get_order", 0.0),
    ):
        assert tool_call_score(made, due, asked) == right
        assert is_same_answer(made, due) == bool(right)
    assert tool_call_score("It was sent.", "It is on its way.", asked) == 1.0
    assert tool_call_score(due, "It is on its way.", asked) == 0.0
    assert tool_call_score("hello", "hello", "hi") is None
    assert not is_same_answer(due, "It is on its way.")
