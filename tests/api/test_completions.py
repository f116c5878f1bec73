"""OpenAI's older form: a text, or several, instead of a conversation. What chat does is not tested again, only what differs."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import openai
import pytest

from support.api import CHAT, TEXT, ask, events
from support.serving import LABELS, DirectDriver, House
from tailorbird.api.generation_requests import parse_completion
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.ports.engine import LabelScores
from tailorbird.text.sketch import sketch

ASK = {"model": "acme/routing", "prompt": "I lost my card"}


def post(house: House, body: Any, driver: DirectDriver | None = None) -> httpx.Response:
    return ask(house, lambda client: client.post(TEXT, json=body), driver)


def test_a_text_is_answered_as_the_users_only_message(house: House) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    response = post(house, ASK | {"max_tokens": 4})
    body = response.json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {
            "index": 0,
            "text": f"{short(release)} I LOST MY",
            "logprobs": None,
            "finish_reason": "length",
            "tailorbird": {"release": release, "arm": "a"},
        }
    ]
    assert body["usage"]["completion_tokens"] == 4
    assert response.headers["x-tailorbird-release"] == release
    (row,) = house.rows()
    assert (row.id, row.route, row.completion_tokens, row.characters) == (body["id"], TEXT, 4, 14)
    assert row.sketch == sketch("I lost my card")
    assert row.cost > 0


def test_the_same_text_as_a_conversation_has_the_same_answer(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))

    async def story(client: httpx.AsyncClient) -> tuple[str, str]:
        text = (await client.post(TEXT, json=ASK)).json()["choices"][0]["text"]
        spoken = {"model": "acme/routing", "messages": [{"role": "user", "content": "I lost my card"}]}
        return text, (await client.post(CHAT, json=spoken)).json()["choices"][0]["message"]["content"]

    text, spoken = ask(house, story)
    assert text == spoken


def test_each_of_several_texts_has_its_answer_and_its_row(house: House) -> None:
    house.point("routing", house.release())
    texts = ["I lost my card", "a refund please", "top up"]
    body = post(house, ASK | {"prompt": texts}).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [choice["text"] for choice in body["choices"]] == ["lost_card", "refund", "top_up"]
    for choice in body["choices"]:
        assert tuple(choice["tailorbird"]["probabilities"]) == LABELS
    rows = {row.id: row for row in house.rows()}
    assert sorted(rows) == [body["id"], f"{body['id']}-1", f"{body['id']}-2"]
    for index, (text, choice) in enumerate(zip(texts, body["choices"], strict=True)):
        row = rows[f"{body['id']}-{index}" if index else body["id"]]
        assert (row.prediction, row.characters, row.sketch) == (choice["text"], len(text), sketch(text))
        assert math.isclose(row.confidence or 0, choice["tailorbird"]["probabilities"][choice["text"]])
    assert body["usage"]["prompt_tokens"] == sum(row.prompt_tokens for row in rows.values())


def test_texts_are_streamed_one_after_the_other(house: House) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    response = post(house, ASK | {"prompt": ["one", "two words"], "stream": True, "stream_options": {"include_usage": True}})
    *chunks, usage, done = events(response)
    assert done == "[DONE]"
    told = [(chunk["choices"][0]["index"], chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks]
    name = short(release)
    assert told == [
        (0, name, None),
        (0, " ONE", None),
        (0, "", "stop"),
        (1, name, None),
        (1, " TWO", None),
        (1, " WORDS", None),
        (1, "", "stop"),
    ]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert sorted(row.completion_tokens for row in house.rows()) == [2, 3]


class SecondFails(DirectDriver):
    """Answers the first text only; counts what was cancelled."""

    asked = 0

    async def score(self, *question: Any) -> LabelScores:
        self.asked += 1
        if self.asked == 2:
            raise Unavailable("away", "wait", code="engine_unavailable")
        return await super().score(*question)


@pytest.mark.parametrize("stream", [False, True])
def test_one_failure_fails_the_request_and_leaves_a_row_for_each_text(house: House, stream: bool) -> None:
    house.point("routing", house.release())
    response = post(house, ASK | {"prompt": ["card", "refund"], "stream": stream}, SecondFails(house))
    if stream:
        assert events(response)[-1]["error"]["code"] == "engine_unavailable"
    else:
        assert response.status_code == 503
    assert [(row.outcome, row.error) for row in house.rows()] == [("error", "engine_unavailable")] * 2


def test_the_stock_client_is_at_home(house: House) -> None:
    house.point("routing", house.release())
    house.point("writer", writer := house.release(2, task=TaskKind.GENERATE))
    _, secret = house.key()

    async def story(client: httpx.AsyncClient) -> None:
        stock = openai.AsyncOpenAI(base_url="http://gateway/v1", api_key=secret, http_client=client, max_retries=0)
        label = await stock.completions.create(model="acme/routing", prompt="I lost my card", logit_bias={}, echo=False, best_of=1, n=1)
        assert label.choices[0].text == "lost_card"
        assert tuple(label.choices[0].model_extra["tailorbird"]["probabilities"]) == LABELS  # type: ignore[index]
        texts = await stock.completions.create(model="acme/writer", prompt=["a b", "c d"], temperature=0.5, top_p=0.9, seed=1, stop=["D"])
        assert [choice.text for choice in texts.choices] == [f"{short(writer)} A B", f"{short(writer)} C"]
        assert texts.usage is not None
        stream = await stock.completions.create(model="acme/writer", prompt="a b", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == f"{short(writer)} A B"
        with pytest.raises(openai.BadRequestError) as refused:
            await stock.completions.create(model="acme/writer", prompt="x", logprobs=3)
        assert (refused.value.param, refused.value.code) == ("logprobs", "unsupported_parameter")

    ask(house, story)


def parse(**changes: Any) -> Any:
    return parse_completion(json.dumps(ASK | changes).encode())


def test_sampling_is_read_as_in_chat() -> None:
    sampling = parse(temperature=0.5, top_p=0.9, seed=7, stop="a", max_tokens=9).sampling
    assert sampling.model_dump(exclude_defaults=True) == {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ("a",)}
    assert (parse().sampling.temperature, parse().sampling.max_tokens) == (0.0, 128)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("n", 2), ("logprobs", 0), ("best_of", 3), ("echo", True), ("suffix", "end"), ("logit_bias", {"5": 1}), ("presence_penalty", 1)],
)
def test_what_would_change_the_answer_is_refused_by_name(parameter: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**{parameter: value})
    assert (refused.value.error_code, refused.value.param) == ("unsupported_parameter", parameter)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 17}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**changes)
    assert (refused.value.param or "").startswith(param)


def test_sixteen_texts_are_taken() -> None:
    assert len(parse(prompt=["x"] * 16).conversations) == 16
