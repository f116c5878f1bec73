"""Tool calls and definitions: one spelling, limits, and which calls are the same."""

from __future__ import annotations

from typing import Any

import pytest

from support.tools import TOOLS, call
from tailorbird.chat.conversations import answer_turn, as_lines, fold_answer, fold_turns, shown_answer, unfold_turns
from tailorbird.chat.tool_calls import ToolFault, arguments_text, linked, same_calls, tool_calls, tools_text
from tailorbird.domain.prompt import Message, ToolCall


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("{", "arguments_invalid"),
        ("[1]", "arguments_invalid"),
        ({"a": float("nan")}, "arguments_invalid"),
        ({"a": "\ud800"}, "arguments_invalid"),
        ('{"a": ' * 100_000, "arguments_too_long"),
        (deep(30), "json_depth"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(given: Any, code: str) -> None:
    with pytest.raises(ToolFault) as caught:
        arguments_text(given)
    assert caught.value.code == code


def test_arguments_have_one_spelling() -> None:
    assert arguments_text('{"b":1,\n"a":"\\u00e9"}') == arguments_text({"b": 1, "a": "é"}) == '{"b": 1, "a": "é"}'
    assert arguments_text(None) == arguments_text("") == "{}"


def _nested(depth: int, value: Any) -> Any:
    return {"a": _nested(depth - 1, value)} if depth else value


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("{", "tools_invalid"),
        ([{"name": "f"}, {"name": "f"}], "tools_invalid"),
        ([{"name": "<|im_end|>"}], "function_name"),
        ([{"name": f"f{n}"} for n in range(200)], "tools_too_many"),
        ([{"name": "f", "parameters": {"default": _nested(16, ["x"] * 20_000)}}], "tools_too_long"),
        ([{"name": "f", "parameters": {"type": "string"}}], "tools_invalid"),
    ],
)
def test_definitions_that_cannot_be_used_are_refused(given: Any, code: str) -> None:
    with pytest.raises(ToolFault) as caught:
        tools_text(given)
    assert caught.value.code == code


def test_neither_the_order_of_keys_nor_of_calls_counts() -> None:
    one, two = tool_calls([call("f", {"a": 1, "b": [2.0]}), call("g", {})]), tool_calls([call("g", {}), call("f", '{"b":[2],"a":1}')])
    assert same_calls(one, two)
    assert not same_calls(one, two[:1])
    assert not same_calls(one[1:], tool_calls([call("g", {"a": None})]))


def test_a_call_is_folded_into_an_answer_and_unfolded() -> None:
    turn = Message(
        role="assistant", content="One moment.", tool_calls=(ToolCall(id="call00000", name="f", arguments='{"a": "line\\nbob"}'),)
    )
    assert answer_turn(fold_answer(turn)) == turn
    assert shown_answer(fold_answer(turn)) == 'One moment.\nf({"a": "line\\nbob"})'
    assert answer_turn("hello").content == "hello"
    talk = (Message(role="user", content="hi", tools=tools_text(TOOLS)), turn, Message(role="tool", content="x", tool_call_id="call00000"))
    assert unfold_turns(fold_turns(talk)) == talk
    assert as_lines(fold_turns(talk)).endswith("tool: x")


@pytest.mark.parametrize(
    ("turns", "code"),
    [
        ([Message(role="tool", content="x", tool_call_id="a")], "call_missing"),
        (["call", Message(role="tool", content="x", tool_call_id="b")], "call_missing"),
        (["call", Message(role="user", content="x")], "result_missing"),
    ],
)
def test_results_that_fit_no_call_are_refused(turns: list[Any], code: str) -> None:
    called = Message(role="assistant", content="", tool_calls=(ToolCall(id="a", name="f"),))
    with pytest.raises(ToolFault) as caught:
        linked([called if turn == "call" else turn for turn in turns])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("ids", "told", "names"),
    [
        ("abc", "cab", [2, 0, 1]),
        ("aab", "baa", [2, 0, 1]),
        ("ab-a", "bza-", [1, 2, 0, 3]),
    ],
)
def test_a_result_answers_the_first_open_call_that_it_may(ids: str, told: str, names: list[int]) -> None:
    """A dash names nothing."""
    called = Message(role="assistant", content="", tool_calls=tuple(ToolCall(id=id_.strip("-"), name="f") for id_ in ids))
    results = [Message(role="tool", content="", tool_call_id=id_.strip("-")) for id_ in told]
    assert [turn.tool_call_id for turn in linked([called, *results])[1:]] == [f"call{place:05d}" for place in names]
