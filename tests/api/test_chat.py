"""Conversations over HTTP: answers, streams, headers, rows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator

import httpx
import pytest

from support.api import ASK, CHAT, ask, events, post
from support.clocks import replace_clock
from support.serving import LABELS, DirectDriver, House
from tailorbird.api.request_record import MOST_REFUSED
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Corrupt, InvalidInput, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.ports.engine import Chunk, LabelScores
from tailorbird.serving import request_log


def test_a_classify_release_answers_with_its_label_and_probabilities(house: House) -> None:
    house.point("routing", release := house.release())
    response = post(house, ASK)
    body = response.json()
    assert response.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["model"] == "acme/routing"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "lost_card", "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    counts = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    assert body["usage"] == counts | {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    assert tuple(body["tailorbird"]["probabilities"]) == LABELS
    assert math.isclose(sum(body["tailorbird"]["probabilities"].values()), 1.0)
    assert body["tailorbird"]["release"] == release == response.headers["x-tailorbird-release"]
    assert response.headers["x-tailorbird-arm"] == "a"
    assert response.headers["x-tailorbird-request-id"] == response.headers["x-request-id"] == body["id"]
    assert float(response.headers["x-tailorbird-overhead-ms"]) > 0
    (row,) = house.rows()
    assert (row.id, row.tenant, row.alias, row.release, row.arm) == (body["id"], "acme", "acme/routing", release, "a")
    assert (row.status, row.outcome, row.error, row.prediction) == (200, "ok", None, "lost_card")
    assert (row.prompt_tokens, row.completion_tokens, row.route) == (5, 0, CHAT)
    assert row.latency_ms > 0


def test_a_stream_of_a_generate_release_has_openais_shape(house: House) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    response = post(house, ASK | {"stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-tailorbird-release"] == release
    *chunks, usage, done = events(response)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == f"{short(release)} I LOST MY CARD"
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * 5 + ["stop"]
    assert chunks[-1]["tailorbird"] == {"release": release, "arm": "a"}
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert {chunk["id"] for chunk in chunks} == {response.headers["x-tailorbird-request-id"]}
    (row,) = house.rows()
    assert (row.outcome, row.completion_tokens, row.prediction) == ("ok", 5, None)


def test_a_user_stays_on_one_arm_of_a_split(house: House) -> None:
    one, other = house.release(1), house.release(2)
    house.point("routing", one, other, weights=[1, 1])

    async def story(client: httpx.AsyncClient) -> tuple[set[str], set[str]]:
        async def arm(user: str) -> str:
            return (await client.post(CHAT, json=ASK | {"user": user})).headers["x-tailorbird-arm"]

        return {await arm("u1") for _ in range(8)}, {await arm(f"user {n}") for n in range(20)}

    sticky, spread = ask(house, story)
    assert len(sticky) == 1
    assert spread == {"a", "b"}
    assert {row.arm for row in house.rows()} == {"a", "b"}


@pytest.mark.parametrize("model", ["acme/nothing", "globex/secret", "secret", "", "acme/", "globex/routing"])
def test_a_name_that_is_not_ours_is_a_404_whoever_has_it(house: House, model: str) -> None:
    house.point("routing", house.release())
    house.point("secret", house.release(9, tenant="globex"), tenant="globex")
    response = post(house, ASK | {"model": model})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("model_not_found", "invalid_request_error")
    assert error["message"] == f"there is no model {model!r}"
    (row,) = house.rows()
    assert (row.status, row.outcome, row.error, row.alias, row.release) == (404, "refused", "model_not_found", "", None)


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_away_is_a_503_with_a_row(house: House, stream: bool) -> None:
    house.point("routing", release := house.release(task=TaskKind.GENERATE))
    driver = DirectDriver(house)

    async def story(client: httpx.AsyncClient) -> httpx.Response:
        driver.away = Unavailable("the model process does not answer", "try again", code="engine_unavailable")
        return await client.post(CHAT, json=ASK | {"stream": stream})

    response = ask(house, story, driver)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["type"] == "server_error"
    (row,) = house.rows()
    assert (row.status, row.outcome, row.error, row.release) == (503, "error", "engine_unavailable", release)


class BreakingDriver(DirectDriver):
    """Breaks in the middle of a stream."""

    def __init__(self, house: House, error: Exception) -> None:
        super().__init__(house)
        self.error = error

    async def stream(self, *question: object):  # type: ignore[no-untyped-def, override]
        async for chunk in super().stream(*question):  # type: ignore[arg-type]
            yield chunk
            raise self.error


def test_an_error_in_the_middle_of_a_stream_is_told_and_recorded(house: House) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    error = Corrupt("the engine lost its weights", "restart it", code="engine_broken")
    response = post(house, ASK | {"stream": True}, BreakingDriver(house, error))
    first, told = events(response)
    assert first["choices"][0]["delta"]["content"]
    assert told["error"]["code"] == "engine_broken"
    (row,) = house.rows()
    assert (row.status, row.outcome, row.error) == (500, "error", "engine_broken")


@pytest.mark.parametrize("stream", [False, True])
def test_a_defect_is_a_500_without_its_words_and_leaves_a_row(house: House, stream: bool) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    response = post(house, ASK | {"stream": stream}, BreakingDriver(house, RuntimeError("secret words")))
    assert "secret words" not in response.text
    assert "[DONE]" not in response.text
    (row,) = house.rows()
    assert (row.status, row.outcome, row.error) == (500, "error", "internal")


class HastyDriver(DirectDriver):
    """Answers after a while, and says when it was asked and whether it was cancelled."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.asked, self.cancelled = asyncio.Event(), False

    async def score(self, *question: object) -> LabelScores:
        self.asked.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise InvalidInput("not reached", "")


class HurriedCaller:
    """A caller that leaves once ``driver`` is at work."""

    def __init__(self, driver: HastyDriver) -> None:
        self._driver = driver

    async def __call__(self, client: httpx.AsyncClient) -> None:
        app = client._transport.app  # type: ignore[attr-defined]
        body = client.build_request("POST", CHAT, json=ASK)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "headers": [(name.lower(), value) for name, value in body.headers.raw],
            "client": None,
            "server": ("gateway", 80),
        }
        messages = [{"type": "http.request", "body": body.content, "more_body": False}]

        async def receive() -> object:
            if messages:
                return messages.pop()
            await self._driver.asked.wait()
            return {"type": "http.disconnect"}

        async def send(_message: object) -> None: ...

        await asyncio.wait_for(app(scope, receive, send), 5)


def test_a_caller_that_leaves_cancels_its_question_and_leaves_a_row(house: House) -> None:
    house.point("routing", house.release())
    driver = HastyDriver(house)
    ask(house, HurriedCaller(driver), driver)
    assert driver.cancelled
    (row,) = house.rows()
    assert (row.status, row.outcome) == (499, "aborted")
    assert row.prompt_tokens > 0, "leaving before the first token made reading free"


class StrictDriver(DirectDriver):
    """Reads the prompt, and finds only then that the schema cannot be followed."""

    async def stream(self, *question: object) -> AsyncGenerator[Chunk, None]:
        raise InvalidInput("the JSON schema cannot be followed", "give another", code="schema_invalid")
        yield Chunk(text="")


def test_what_was_read_before_the_callers_schema_ended_the_answer_is_charged(house: House) -> None:
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    asked = {"model": "acme/writer", "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}
    assert post(house, ASK | asked, StrictDriver(house)).status_code == 400
    (row,) = house.rows()
    assert (row.status, row.error) == (400, "schema_invalid")
    assert row.prompt_tokens > 0, "a schema that fails at the first token made reading free"


def test_a_flood_of_refused_requests_leaves_few_rows_and_one_count(house: House) -> None:
    """A row for each would fill the record, at the expense of nobody's quota."""
    house.point("routing", house.release())

    async def story(client: httpx.AsyncClient) -> None:
        for _ in range(MOST_REFUSED + 40):
            assert (await client.post(CHAT, content=b"{")).status_code == 400
        assert (await client.post(CHAT, json=ASK)).status_code == 200

    ask(house, story)
    rows = house.rows()
    assert sorted({row.status for row in rows}) == [200, 400]
    assert len(rows) == MOST_REFUSED + 1


def test_an_answer_that_cannot_be_recorded_is_not_given(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.point("routing", house.release())

    async def story(client: httpx.AsyncClient) -> httpx.Response:
        def busy(tenant: str, *, write: bool = True, durable: bool = True) -> None:
            raise Unavailable("locked", "wait", code="database_busy")

        monkeypatch.setattr(house.ledger, "work", busy)
        replace_clock(monkeypatch, request_log, monotonic=lambda: float("inf"))
        return await client.post(CHAT, json=ASK)

    response = ask(house, story)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "record_unavailable"


def test_a_prompt_longer_than_the_context_is_a_400(house: House) -> None:
    house.point("routing", house.release())
    response = post(house, ASK | {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "prompt_too_long"
    assert "word" not in response.text
