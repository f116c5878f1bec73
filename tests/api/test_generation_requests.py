"""What a request may say: honoured, harmless, refused; nothing is misread in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.api import ASK, ask, post
from support.serving import House
from tailorbird.api.openai import ChatBody
from tailorbird.api.responses import ResponseBody
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Sampling


def parse(**changes: Any) -> Any:
    return ChatBody.parse(json.dumps(ASK | changes).encode())


def test_defaults_are_greedy_and_deterministic() -> None:
    sampling = parse().sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.stop) == (0.0, 1.0, 0, ())


def test_sampling_is_read() -> None:
    sampling = parse(temperature=0.5, top_p=0.9, seed=7, stop=["a", "b"], max_tokens=9).sampling
    assert sampling == Sampling(max_tokens=9, temperature=0.5, top_p=0.9, seed=7, stop=("a", "b"))
    assert parse(max_tokens=9, max_completion_tokens=3).sampling.max_tokens == 3
    assert len({parse(temperature=1).sampling.seed for _ in range(5)}) > 1


def test_messages_of_every_usual_form_are_read() -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}], "name": "ada"},
        {
            "role": "assistant",
            "content": "ok",
            "refusal": None,
            "annotations": [],
            "tool_calls": None,
            "audio": None,
            "function_call": None,
        },
        {"role": "user", "content": "bye"},
    ]
    conversation = parse(messages=messages).conversation
    assert [(m.role, m.content) for m in conversation] == [
        ("system", "Be kind."),
        ("user", "two parts"),
        ("assistant", "ok"),
        ("user", "bye"),
    ]


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "top_logprobs": None, "logit_bias": {}},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "response_format": {"type": "text"}, "modalities": ["text"]},
        {"stop": None, "seed": None, "stream": None, "stream_options": None, "temperature": None, "parallel_tool_calls": True},
    ],
)
def test_what_changes_nothing_is_accepted(harmless: dict[str, Any]) -> None:
    assert parse(**harmless).model == "acme/routing"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("n", 2),
        ("n", True),
        ("functions", [{"name": "f"}]),
        ("presence_penalty", 0.5),
        ("logit_bias", {"5": 1}),
        ("web_search_options", {}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(parameter: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**{parameter: value})
    assert (refused.value.error_code, refused.value.param) == ("unsupported_parameter", parameter)


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"content": "x"}]}, "messages.0.role", "missing_parameter"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0", "invalid_value"),
        ({"model": None}, "model", "invalid_value"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(**changes)
    assert (refused.value.param or "").startswith(param)
    assert refused.value.error_code == code
    assert refused.value.hint


def test_a_misspelt_parameter_gets_a_suggestion() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(temprature=1)
    assert refused.value.hint == "did you mean temperature?"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"text"', b"{}", b"\xff\xfe", b'{"model": NaN', b"[" * 5000, b'{"a": "\\ud800"}']
)
def test_a_body_that_is_not_ours_is_a_400_in_openais_shape(house: House, body: bytes) -> None:
    response = post(house, body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "hint"}
    assert error["type"] == "invalid_request_error"
    (row,) = house.rows()
    assert (row.status, row.outcome) == (400, "refused")


def test_the_text_of_a_message_never_stands_in_an_error() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(messages=[{"role": "user", "content": {"my private words": "here"}}])
    assert "private" not in str(refused.value.as_dict())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["model", "messages", "stream", "max_tokens", "temperature", "top_p", "stop", "n", "tools", "content", "x"])


@given(st.dictionaries(NAMES, JSON, max_size=5), st.booleans())
def test_any_json_is_read_or_refused_as_bad_input(changes: dict[str, Any], complete: bool) -> None:
    body = json.dumps((ASK if complete else {}) | changes).encode()
    try:
        read = ChatBody.parse(body)
    except InvalidInput:
        return
    assert read.sampling.max_tokens >= 1
    assert read.conversation


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_as_bad_input(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        ChatBody.parse(body)


def test_ten_megabytes_are_refused_without_being_read(house: House) -> None:
    response = post(house, b"x" * 10_000_000)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"

    async def endless():  # type: ignore[no-untyped-def]
        while True:
            yield b" " * 65536

    streamed = ask(house, lambda client: client.post("/v1/chat/completions", content=endless()))
    assert streamed.status_code == 413


@pytest.mark.parametrize("piece", [b'"messages":[%s1]', b'"messages":[{"role":"user","content":[%s1]}]'])
def test_a_body_with_very_many_faults_costs_no_more_than_another(piece: bytes) -> None:
    body = b'{"model":"m",' + piece % (b"{}," * 300_000) + b"}"
    with pytest.raises(InvalidInput) as refused:
        ChatBody.parse(body)
    assert len(str(refused.value.as_dict())) < 1000, "a few faults are told"


def test_a_stop_string_is_no_novel() -> None:
    with pytest.raises(InvalidInput):
        ChatBody.parse(json.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}], "stop": "a" * 1025}).encode())


def test_very_many_unknown_parameters_are_refused_at_the_first() -> None:
    body = b"{" + b",".join(b'"k%d":1' % number for number in range(90_000)) + b"}"
    with pytest.raises(InvalidInput) as refused:
        ChatBody.parse(body)
    assert (refused.value.error_code, refused.value.param) == ("unknown_parameter", "k0")


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "image_url", "image_url": {"url": "https://pictures.example"}}, "a part of the type image_url is not read"),
        ({"type": "input_audio", "input_audio": {}}, "a part of the type input_audio is not read"),
        ({"type": "A B"}, "a part is not read"),
    ],
)
def test_a_picture_is_refused_with_what_to_send(part: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(messages=[{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}])
    assert refused.value.message == f"messages.0.content: {named}: send what it shows or says as text"
    with pytest.raises(InvalidInput, match="send what it shows or says as text") as refused:
        ResponseBody.parse(json.dumps({"model": "acme/routing", "input": [{"role": "user", "content": [part]}]}).encode())
    assert refused.value.param == "input"
