"""Functions on offer over HTTP: calls whole and streamed, results sent back, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.api import ASK, events, post
from support.serving import House
from support.tools import TOOLS, call
from tailorbird.domain.objective import TaskKind

OFFER = {"model": "acme/routing", "messages": [{"role": "user", "content": "please get_order 7"}], "tools": TOOLS}


@pytest.fixture
def talks(house: House) -> House:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    return house


def test_a_call_is_answered_as_a_call(talks: House) -> None:
    body = post(talks, OFFER).json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (made,) = choice["message"]["tool_calls"]
    assert (made["type"], made["function"]["name"]) == ("function", "get_order")
    assert json.loads(made["function"]["arguments"]) == {"text": "please get_order 7"}
    (row,) = talks.rows()
    assert (row.outcome, row.malformed) == ("ok", False)


def test_a_streamed_call_has_openais_shape(talks: House) -> None:
    *chunks, done = events(post(talks, OFFER | {"stream": True}))
    assert done == "[DONE]"
    (delta,) = [chunk["choices"][0]["delta"] for chunk in chunks if "tool_calls" in chunk["choices"][0]["delta"]]
    assert delta["tool_calls"][0]["index"] == 0
    assert delta["tool_calls"][0]["function"]["name"] == "get_order"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "tool_calls"


def test_the_result_of_a_call_is_sent_back(talks: House) -> None:
    made = post(talks, OFFER).json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "sent on Monday"}
    body = post(talks, OFFER | {"messages": [*OFFER["messages"], made, result]}).json()
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["content"].endswith("SENT ON MONDAY")


@pytest.mark.parametrize(
    ("choice", "called"),
    [("auto", None), ("none", None), ("required", "get_invoice"), ({"type": "function", "function": {"name": "get_order"}}, "get_order")],
)
def test_the_choice_of_a_tool_is_kept_to(talks: House, choice: Any, called: str | None) -> None:
    asked = OFFER | {"messages": [{"role": "user", "content": "hello"}], "tool_choice": choice}
    message = post(talks, asked).json()["choices"][0]["message"]
    assert [each["function"]["name"] for each in message.get("tool_calls", [])] == ([called] if called else [])


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "<|im_end|>"}}]}, "tools"),
        ({"tools": [1] * 100_000}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, None),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, None),
        ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call("f", "{")]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call("f", "[" * 40_000)]}]}, "messages"),
    ],
)
def test_what_cannot_be_used_is_refused(talks: House, changes: dict[str, Any], param: str | None) -> None:
    response = post(talks, OFFER | changes)
    assert response.status_code == 400
    assert response.json()["error"]["code"]
    if param is not None:
        assert (response.json()["error"]["param"] or "").startswith(param)


def test_a_model_that_classifies_is_offered_no_tools(house: House) -> None:
    house.point("routing", house.release())
    response = post(house, ASK | {"tools": TOOLS})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")
