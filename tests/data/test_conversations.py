"""Conversations: turns in, one text and one answer out, and turns again before a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.data import make_objective
from support.tools import CHAT, TOOLS, call
from tailorbird.chat.conversations import answer_turn, last_user_turn, unfold_turns
from tailorbird.data import read_sources
from tailorbird.data.privacy import Redaction
from tailorbird.data.readers.cells import answered
from tailorbird.data.readers.data_file import Record
from tailorbird.domain.curation import PersonalKind, PrivacyAction, PrivacyPolicy
from tailorbird.domain.objective import TaskKind

HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]


def read(folder: Path, *conversations: Any, thinking: bool = False) -> Any:
    (folder / "d.jsonl").write_text("".join(json.dumps({"chat": chat}) + "\n" for chat in [*conversations, *[HELLO] * 9]))
    return read_sources(make_objective({"path": "d.jsonl", "messages": "chat"}, kind=TaskKind.GENERATE, thinking=thinking), folder)


def test_what_was_said_before_goes_along(tmp_path: Path) -> None:
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes?"}]
    chat += [{"from": "human", "value": "what is it"}, {"from": "gpt", "value": "a bird"}]
    row = read(tmp_path, json.dumps(chat)).rows[0]
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
        (HELLO[::-1], "role_order"),
        ([{"role": "narrator", "content": "x"}, *HELLO], "role_unknown"),
        ([{"role": "tool", "content": "x"}, *HELLO], "call_missing"),
        ([{"role": "user", "content": ["x"]}, *HELLO[1:]], "empty_turn"),
    ],
)
def test_what_is_no_conversation_is_set_aside(tmp_path: Path, chat: Any, code: str) -> None:
    found = read(tmp_path, chat)
    assert [entry.code for entry in found.quarantined] == [code]


def test_what_one_says_in_several_turns_is_one_turn(tmp_path: Path) -> None:
    """People press Enter within what they say; such conversations were set aside."""
    rules = [{"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}]
    chat = [*rules, {"role": "user", "content": "hi"}, *HELLO, {"role": "assistant", "content": "how may I help?"}]
    row = read(tmp_path, chat).rows[0]
    assert [(turn.role, turn.content) for turn in unfold_turns(row.text)] == [("system", "Be brief.\n\nBe kind."), ("user", "hi\n\nhello")]
    assert row.target == "good day\n\nhow may I help?"


@pytest.mark.parametrize(
    "chat",
    [
        [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "good day"}],
        [{"speaker": "Customer", "text": "hello"}, {"speaker": "Agent", "text": "good day"}],
        [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, HELLO[1]],
        [{"role": "user", "parts": [{"text": "hel"}, {"text": "lo"}]}, {"role": "model", "parts": [{"text": "good day"}]}],
    ],
)
def test_turns_are_read_in_the_spellings_in_use(tmp_path: Path, chat: Any) -> None:
    row = read(tmp_path, chat).rows[0]
    assert (last_user_turn(row.text), row.target) == ("hello", "good day")


@pytest.mark.parametrize("name", ["reasoning_content", ""])
def test_reasoning_goes_along_where_the_model_is_to_reason(tmp_path: Path, name: str) -> None:
    apart = {"role": "assistant", "content": "good day", name: "a greeting"}
    chat = [HELLO[0], apart if name else HELLO[1] | {"content": "<think>a greeting</think>good day"}]
    with_it, without = (read(tmp_path, chat, thinking=thinking).rows[0].target for thinking in (True, False))
    assert (with_it, without) == ("<think>\na greeting\n</think>\n\ngood day", "good day")
    assert read(tmp_path, HELLO, thinking=True).rows[0].target == "good day"


def read_calls(folder: Path, *rows: dict[str, Any], tools: str | None = "tools", **policy: Any) -> Any:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *[{"chat": HELLO, "tools": None}] * 9]))
    source = {"path": "d.jsonl", "messages": "chat"} | ({"tools": tools} if tools else {})
    return read_sources(make_objective(source, kind=TaskKind.GENERATE, **policy), folder)


def test_calls_results_and_definitions_stay_structured(tmp_path: Path) -> None:
    (row, *_) = read_calls(tmp_path, {"chat": CHAT, "tools": json.dumps(TOOLS)}).rows
    asked, called, result, *_ = unfold_turns(row.text)
    assert json.loads(asked.tools) == TOOLS
    assert (called.tool_calls[0].name, called.tool_calls[0].arguments, result.tool_call_id) == ("get_order", '{"id": "7"}', "call00000")
    assert [one.name for one in answer_turn(row.target).tool_calls] == ["get_order"]


def test_calls_in_the_form_of_sharegpt_and_of_the_former_api_are_read_alike(tmp_path: Path) -> None:
    made = {"name": "get_order", "arguments": {"id": "7"}}
    sharegpt = [
        {"from": "human", "value": "Where is order 7?"},
        {"from": "function_call", "value": json.dumps(made)},
        {"from": "observation", "value": "sent"},
        {"from": "gpt", "value": "It was sent."},
    ]
    former = [
        {"role": "user", "content": "Where is order 7?"},
        {"role": "assistant", "content": None, "function_call": {"name": "get_order", "arguments": '{"id": "7"}'}},
        {"role": "function", "name": "get_order", "content": "sent"},
        {"role": "assistant", "content": "It was sent."},
    ]
    bare = [tool["function"] for tool in TOOLS]
    one, two, *_ = read_calls(tmp_path, {"chat": sharegpt, "tools": bare}, {"chat": former, "tools": TOOLS}).rows
    assert (one.text, one.target) == (two.text, two.target)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"chat": CHAT, "tools": None}, "function_unknown"),
        ({"chat": [*CHAT[:2], *CHAT[3:4]], "tools": TOOLS}, "result_missing"),
        ({"chat": [CHAT[0], CHAT[3], CHAT[2], CHAT[3]], "tools": TOOLS}, "call_missing"),
        ({"chat": [CHAT[0], {"role": "assistant", "tool_calls": [call("get_order", "{")]}], "tools": TOOLS}, "arguments_invalid"),
    ],
)
def test_what_is_no_conversation_with_tools_is_set_aside(tmp_path: Path, row: dict[str, Any], code: str) -> None:
    assert [entry.code for entry in read_calls(tmp_path, row).quarantined] == [code]


def test_personal_data_are_taken_out_of_arguments_and_results() -> None:
    turns = [
        {"role": "user", "content": "write to\nbob@example.org"},
        {"role": "assistant", "tool_calls": [call("get_order", {"id": "a\nbob@example.org", "phone": 4915112345678, "n": 3})]},
        {"role": "tool", "content": "sent to\nbob@example.org"},
        {"role": "assistant", "tool_calls": [call("get_order", {"id": "bob@example.org"})]},
    ]
    text, target = answered(Record(line=1, cells={"chat": turns, "tools": TOOLS}), "chat", "tools")
    treated = Redaction(PrivacyPolicy(default=PrivacyAction.REDACT)).treat([text, target, "to bob@example.org"])
    assert not any("bob" in each.text for each in treated)
    asked, called, result = unfold_turns(treated[0].text)
    assert (asked.content, result.content) == ("write to\n[EMAIL]", "sent to\n[EMAIL]")
    assert json.loads(called.tool_calls[0].arguments)["id"] == "a\n[EMAIL]"
    assert json.loads(called.tool_calls[0].arguments)["n"] == 3
    assert json.loads(answer_turn(treated[1].text).tool_calls[0].arguments) == {"id": "[EMAIL]"}
    assert treated[0].counts[PersonalKind.EMAIL] == 3
