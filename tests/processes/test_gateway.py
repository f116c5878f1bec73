"""Gateway and engine on real sockets, asked by the stock client: streams, hang-ups, rollback under load, a graceful end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from support.doubles import MemoryEngine
from support.processes import ASK, CHAT, Live, live, wait_until
from support.serving import LABELS, House
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.objective import TaskKind

QUESTION = [{"role": "user", "content": "I lost my card"}]


def client_of(served: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.secret, max_retries=0)


def test_the_stock_client_is_at_home(house: House) -> None:
    house.point("routing", house.release())
    house.point("writer", writer := house.release(2, task=TaskKind.GENERATE))
    with live(house) as served, client_of(served) as client:
        assert [model.id for model in client.models.list()] == ["acme/routing", "acme/writer"]
        assert client.models.retrieve("acme/writer").owned_by == "acme"
        answer = client.chat.completions.create(model="acme/routing", messages=QUESTION, user="u1")  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "lost_card"
        assert tuple(answer.model_extra["tailorbird"]["probabilities"]) == LABELS  # type: ignore[index]
        assert answer._request_id == answer.id
        with client.chat.completions.create(
            model="acme/writer",
            messages=QUESTION,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=4,
        ) as stream:
            chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == f"{short(writer)} I LOST MY"
        assert chunks[-2].choices[0].finish_reason == "length"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 4
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="globex/routing", messages=QUESTION)  # type: ignore[arg-type]
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="acme/routing", messages=QUESTION, n=2)  # type: ignore[arg-type]
        assert refused.value.param == "n"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-wrong").models.list()


def test_a_stream_that_is_hung_up_stops_and_leaves_a_row(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    question = ASK | {"stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "word " * 1500}]}
    with live(house, MemoryEngine(delay=0.01)) as served:
        with httpx.stream("POST", served.url + CHAT, json=question, headers=served.headers) as response:
            for _ in response.iter_lines():
                break
        wait_until(lambda: bool(house.ended()))
        (row,) = house.rows()
        assert (row.status, row.outcome) == (499, "aborted")
        assert 1 <= row.completion_tokens < 200
        short_one = httpx.post(served.url + CHAT, json=ASK | {"max_tokens": 1}, headers=served.headers, timeout=10)
        assert short_one.status_code == 200


def test_rollback_under_load_fails_no_request(house: House) -> None:
    old, new = house.release(1), house.release(2)
    house.point("routing", old)
    seen: list[str] = []
    failures: list[object] = []
    stop = threading.Event()

    def ask(served: Live) -> None:
        with httpx.Client(headers=served.headers, timeout=10) as client:
            while not stop.is_set():
                response = client.post(served.url + CHAT, json=ASK)
                if response.status_code != 200:
                    failures.append(response.text)
                seen.append(response.headers.get("x-tailorbird-release", ""))

    def moved(to: str) -> None:
        house.point("routing", to)
        wait_until(lambda: seen[-20:] == [to] * 20)

    with live(house, MemoryEngine(delay=0.002)) as served, ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(ask, served) for _ in range(6)]
        wait_until(lambda: len(seen) > 20)
        moved(new)
        moved(old)
        stop.set()
        for worker in workers:
            worker.result()
    assert failures == []
    assert len(house.rows()) == len(seen)


def test_a_graceful_end_finishes_what_was_begun_and_writes_its_row(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    question = ASK | {"stream": True, "messages": [{"role": "user", "content": "word " * 40}]}
    with live(house, MemoryEngine(delay=0.02)) as served:
        with httpx.stream("POST", served.url + CHAT, json=question, headers=served.headers) as response:
            lines = response.iter_lines()
            next(lines)
            served.server.end()
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    (row,) = house.rows()
    assert (row.outcome, row.completion_tokens) == ("ok", 41)


def test_the_stock_client_gets_responses(house: House) -> None:
    """OpenAI's newer API in its stateless form, whole and as a stream of the client's own events."""
    house.point("routing", house.release())
    house.point("writer", writer := house.release(2, task=TaskKind.GENERATE))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with live(house) as served, client_of(served) as client:
        answer = client.responses.create(model="acme/routing", input="I lost my card", instructions="Classify.")
        assert answer.output_text == "lost_card"
        assert answer.status == "completed"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.input_tokens > 0
        turns = [{"role": "user", "content": "I lost"}, {"role": "assistant", "content": "What?"}, {"role": "user", "content": "my card"}]
        said = client.responses.create(
            model="acme/writer",
            input=turns,  # type: ignore[arg-type]
            max_output_tokens=2,
            text={"format": {"type": "json_schema", "name": "a", "schema": schema}},
        )
        assert said.status == "incomplete"
        assert said.incomplete_details is not None
        assert said.incomplete_details.reason == "max_output_tokens"
        with client.responses.create(model="acme/writer", input="I lost my card", stream=True) as stream:
            told = list(stream)
        assert "".join(event.delta for event in told if event.type == "response.output_text.delta") == f"{short(writer)} I LOST MY CARD"
        assert told[-1].type == "response.completed"
        assert told[-1].response.output_text == f"{short(writer)} I LOST MY CARD"
        with client.responses.stream(model="acme/writer", input="I lost my card") as helper:
            assert helper.get_final_response().output_text == f"{short(writer)} I LOST MY CARD"
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="acme/writer", input="and now?", previous_response_id="resp_1")
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "previous_response_id")
