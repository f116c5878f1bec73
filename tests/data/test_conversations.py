"""Conversations: turns in, one text and one answer out, and turns again before a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.data import make_objective
from tailorbird.data import read_sources
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Demonstration, Message, PromptSpec
from tailorbird.text.conversations import as_lines, fold_turns, last_user_turn, unfold_turns
from tailorbird.text.prompt_rendering import messages_for

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]


def read(folder: Path, *conversations: Any, thinking: bool = False) -> Any:
    (folder / "d.jsonl").write_text("".join(json.dumps({"chat": chat}) + "\n" for chat in [*conversations, *[HELLO] * 9]))
    return read_sources(make_objective({"path": "d.jsonl", "messages": "chat"}, kind=TaskKind.GENERATE, thinking=thinking), folder)


def test_one_question_is_its_text(tmp_path: Path) -> None:
    row = read(tmp_path).rows[0]
    assert (row.text, row.target) == ("hello", "good day")


@pytest.mark.parametrize("as_text", [False, True])
def test_what_was_said_before_goes_along(tmp_path: Path, as_text: bool) -> None:
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes?"}]
    chat += [{"from": "human", "value": "what is it"}, {"from": "gpt", "value": "a bird"}]
    row = read(tmp_path, json.dumps(chat) if as_text else chat).rows[0]
    assert row.target == "a bird"
    assert [(turn.role, turn.content) for turn in unfold_turns(row.text)] == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "yes?"),
        ("user", "what is it"),
    ]


@pytest.mark.parametrize(
    ("chat", "code"),
    [
        (None, "missing_cell"),
        ("hello", "wrong_type"),
        ({"role": "user"}, "wrong_type"),
        (["hello"], "wrong_type"),
        ([], "role_order"),
        (HELLO[:1], "role_order"),
        (HELLO[::-1], "role_order"),
        ([*HELLO, *HELLO[1:]], "role_order"),
        ([{"role": "tool", "content": "x"}, *HELLO], "role_unknown"),
        ([{"role": "user", "content": ["x"]}, *HELLO[1:]], "empty_turn"),
        ([{"role": "user", "content": " "}, *HELLO[1:]], "empty_turn"),
        ([{"role": "user", "content": "\ud800"}, *HELLO[1:]], "broken_text"),
    ],
)
def test_what_is_no_conversation_is_set_aside(tmp_path: Path, chat: Any, code: str) -> None:
    found = read(tmp_path, chat)
    assert [entry.code for entry in found.quarantined] == [code]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", ""])
def test_reasoning_goes_along_where_the_model_is_to_reason(tmp_path: Path, name: str) -> None:
    apart = {"role": "assistant", "content": "good day", name: "a greeting"}
    chat = [HELLO[0], apart if name else HELLO[1] | {"content": "<think>a greeting</think>good day"}]
    with_it, without = (read(tmp_path, chat, thinking=thinking).rows[0].target for thinking in (True, False))
    assert (with_it, without) == ("<think>\na greeting\n</think>\n\ngood day", "good day")
    assert read(tmp_path, HELLO, thinking=True).rows[0].target == "good day"


@pytest.mark.parametrize("thinking", [True, False])
def test_a_turn_that_is_all_reasoning_is_set_aside(tmp_path: Path, thinking: bool) -> None:
    found = read(tmp_path, [HELLO[0], HELLO[1] | {"content": "<think>a greeting</think>\n"}], thinking=thinking)
    assert [entry.code for entry in found.quarantined] == ["empty_turn"]


@pytest.mark.parametrize("thinking", [True, False])
def test_answers_in_a_column_are_read_alike(tmp_path: Path, thinking: bool) -> None:
    rows = [
        {"text": "hello", "label": "<think>a greeting</think>good day"},
        {"text": "bye", "label": "<think>hm</think>"},
        *[{"text": "a", "label": "b"}] * 9,
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_sources(
        make_objective({"path": "d.jsonl", "text": "text", "label": "label"}, kind=TaskKind.GENERATE, thinking=thinking), tmp_path
    )
    assert found.rows[0].target == ("<think>\na greeting\n</think>\n\n" if thinking else "") + "good day"
    assert [entry.code for entry in found.quarantined] == ["empty_turn"]


def test_a_shown_conversation_is_turns_and_what_is_asked_is_its_last(tmp_path: Path) -> None:
    said = [Message(role="system", content="Be brief."), Message(role="user", content="hi"), Message(role="assistant", content="yes?")]
    text = fold_turns([*said, Message(role="user", content="what is it")])
    assert last_user_turn(text) == "what is it"
    assert as_lines(text) == "system: Be brief.\n\nuser: hi\n\nassistant: yes?\n\nuser: what is it"
    assert last_user_turn("plain") == as_lines("plain") == "plain"
    prompt = PromptSpec(instruction="Help.", demonstrations=(Demonstration(row_id="sha256:" + "0" * 64, text=text, target="a bird"),))
    assert [(turn.role, turn.content) for turn in messages_for(prompt, "and now")] == [
        ("system", "Help."),
        ("user", "hi"),
        ("assistant", "yes?"),
        ("user", "what is it"),
        ("assistant", "a bird"),
        ("user", "and now"),
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_whose_end_cannot_be_told_is_set_aside(tmp_path: Path, name: str) -> None:
    chat = [HELLO[0], {"role": "assistant", "content": "good day", name: "the tag </think> ends it"}]
    assert [entry.code for entry in read(tmp_path, chat, thinking=True).quarantined] == ["reasoning_unclear"]
    assert read(tmp_path, chat).rows[0].target == "good day"
