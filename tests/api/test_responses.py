"""``/v1/responses`` in its stateless form: what it takes, what it answers, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from support.api import ask
from support.serving import LABELS, House
from support.tools import TOOLS
from tailorbird.chat.tool_calls import MOST_CALLS
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.objective import TaskKind

ROUTE = "/v1/responses"


def asked(house: House, **body: Any) -> httpx.Response:
    body = {"model": "acme/routing", "input": "I lost my card"} | body
    return ask(house, lambda client: client.post(ROUTE, json=body))


def test_text_in_text_out(house: House) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    response = asked(house, max_output_tokens=50)
    body = response.json()
    assert response.status_code == 200, response.text
    assert (body["object"], body["status"], body["error"], body["store"]) == ("response", "completed", None, False)
    (message,) = body["output"]
    assert (message["role"], message["status"]) == ("assistant", "completed")
    assert message["content"] == [{"type": "output_text", "text": f"{short(release)} I LOST MY CARD", "annotations": []}]
    assert body["usage"]["output_tokens"] == 5
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + 5
    assert body["tailorbird"] == {"release": release, "arm": "a"}
    (row,) = house.rows()
    assert (row.id, row.route, row.outcome) == (body["id"], ROUTE, "ok")


def test_an_answer_that_was_cut_short_is_incomplete(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    body = asked(house, max_output_tokens=2).json()
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"


def test_a_label_comes_with_its_probabilities(house: House) -> None:
    house.point("routing", house.release())
    body = asked(house).json()
    assert body["output"][0]["content"][0]["text"] == "lost_card"
    assert tuple(body["tailorbird"]["probabilities"]) == LABELS


def test_a_conversation_with_an_answer_of_before_and_instructions(house: House) -> None:
    """What was answered may be sent back as it came."""
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    first = asked(house).json()["output"]
    turns = [{"role": "user", "content": "I lost my card"}, *first, {"role": "user", "content": [{"type": "input_text", "text": "thanks"}]}]
    body = asked(house, input=turns, instructions="Be brief.").json()
    assert body["output"][0]["content"][0]["text"] == f"{short(release)} THANKS"
    assert body["instructions"] == "Be brief."


def test_the_events_of_a_stream_are_openais_in_order_and_numbered(house: House) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    response = asked(house, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    told = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [event["type"] for event in told]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = list(dict.fromkeys(event["type"] for event in told))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")
    assert deltas == f"{short(release)} I LOST MY CARD" == told[-1]["response"]["output"][0]["content"][0]["text"]
    assert told[-1]["response"]["usage"]["output_tokens"] == 5
    (row,) = house.rows()
    assert (row.outcome, row.completion_tokens) == ("ok", 5)


FLAT = [{"type": "function", **tool["function"], "strict": False} for tool in TOOLS]


def test_a_call_is_an_item_of_its_own(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    body = asked(house, input="please get_order 7", tools=FLAT).json()
    (item,) = body["output"]
    assert (item["type"], item["name"], item["status"], body["status"]) == ("function_call", "get_order", "completed", "completed")
    assert json.loads(item["arguments"]) == {"text": "please get_order 7"}
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == (FLAT, "auto", True)


def test_the_events_of_a_call_are_openais(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    response = asked(house, input="please get_order 7", tools=FLAT, stream=True)
    told = [json.loads(block.split("\n")[1].removeprefix("data: ")) for block in response.text.split("\n\n") if block]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    (item,) = told[-1]["response"]["output"]
    assert told[-2]["item"] == item
    assert told[3]["delta"] == told[4]["arguments"] == item["arguments"]
    assert told[2]["item"] == item | {"arguments": "", "status": "in_progress"}


def test_a_turn_has_as_many_calls_as_in_chat_completions(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    calls = [{"type": "function_call", "call_id": f"c{place}", "name": "f", "arguments": "{}"} for place in range(MOST_CALLS + 1)]
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "y"} for call in calls]
    first = {"role": "user", "content": "a"}
    answer = asked(house, input=[first, *calls, *results])
    assert answer.status_code == 400
    assert f"more than {MOST_CALLS} calls" in answer.json()["error"]["message"]
    assert asked(house, input=[first, *calls[:-1], *results[:-1]]).status_code == 200
    assert asked(house, input=[first, *calls[:-1], *results[:-1], calls[-1], results[-1]]).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("background", True), ("store", True)],
)
def test_what_needs_state_is_refused(house: House, field: str, value: Any) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    error = asked(house, **{field: value}).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": []}, "input"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_not_honoured_is_refused(house: House, body: dict[str, Any], param: str) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    answer = asked(house, **body)
    assert answer.status_code == 400
    assert str(answer.json()["error"]["param"]).startswith(param)
