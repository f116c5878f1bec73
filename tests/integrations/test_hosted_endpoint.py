"""The client of hosted models, on real servers of the protocol: our own gateway, and servers that are slow, failing or lying."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.hosted import DONE, MODEL, USAGE, WHOLE, Reply, ScriptedServer, endpoint, event, fault, scripted
from support.processes import live
from support.serving import House
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Exhausted, Forbidden, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient, HostedAnswer
from tailorbird.testing import MemoryEndpoint

PROMPT = (Message(role="system", content="Classify."), Message(role="user", content="I lost my card"))
KEY = "sk-very-secret"


def local(server: ScriptedServer, **changes: object) -> Endpoint:
    return endpoint(url=server.url, private=True, **({"timeout_s": 5.0} | changes))


def ask(made: Endpoint, model: str = MODEL, key: Callable[[], str] = lambda: KEY, times: int = 1) -> list[HostedAnswer]:
    async def story() -> list[HostedAnswer]:
        client = OpenAiEndpoint(made, model, key, first_wait=0.01)
        try:
            return [await client.answer(PROMPT, Sampling(max_tokens=8)) for _ in range(times)]
        finally:
            await client.close()

    return asyncio.run(story())


def refused(made: Endpoint, key: Callable[[], str] = lambda: KEY) -> TailorbirdError:
    with pytest.raises(TailorbirdError) as found:
        ask(made, key=key)
    assert "SECRET" not in str(found.value) + found.value.hint
    assert KEY not in str(found.value) + found.value.hint
    return found.value


def test_what_is_asked_and_answered() -> None:
    with scripted() as server:
        (answer,) = ask(local(server))
    assert (answer.text, answer.finish_reason) == ("lost card", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 2)
    assert (answer.model, answer.fingerprint, answer.again) == (MODEL, "fp_1", 0)
    assert answer.latency_ms > 0
    asked = server.asked[0]
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == (MODEL, 8, 0.0)
    assert [message["content"] for message in asked["messages"]] == ["Classify.", "I lost my card"]
    assert server.keys == [f"Bearer {KEY}"]


def test_our_own_gateway_is_such_a_server(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.point("routing", house.release(1))
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    with live(house) as gateway:
        made = endpoint(url=gateway.url, private=True)
        (label,) = ask(made, "acme/routing", lambda: gateway.secret)
        (text,) = ask(made, "acme/writer", lambda: gateway.secret)
        wrong = refused(made, lambda: "tb_wrong")
    assert label.text == "lost_card"
    assert label.model == "acme/routing"
    assert text.text.endswith("I LOST MY CARD")
    assert text.prompt_tokens > 0
    assert wrong.error_code == "endpoint_refused"


def test_a_server_that_is_not_there() -> None:
    error = refused(endpoint(url="http://127.0.0.1:9", private=True))
    assert isinstance(error, Unavailable)
    assert error.error_code == "endpoint_unavailable"


def test_one_that_is_slow_is_given_up_and_tried_again() -> None:
    with scripted(Reply(pause=30.0)) as server:
        error = refused(local(server, timeout_s=0.05))
        assert len(server.asked) == 5
    assert error.error_code == "endpoint_unavailable"
    assert "0.05 s" in str(error)


def test_one_that_drips_is_given_up_too() -> None:
    with scripted(Reply(parts=[event("a")] * 1000, pause=0.02)) as server:
        assert refused(local(server, timeout_s=0.1)).error_code == "endpoint_unavailable"


def test_a_rate_limit_is_waited_for() -> None:
    with scripted(fault(429, {"retry-after": "0.02"}), fault(503), Reply()) as server:
        (answer,) = ask(local(server))
    assert (answer.text, answer.again) == ("lost card", 2)


@pytest.mark.parametrize("named", ["0.01", "", "nan", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "-5"])
def test_a_rate_limit_that_stays(named: str) -> None:
    with scripted(fault(429, {"retry-after": named})) as server:
        error = refused(local(server))
        assert len(server.asked) == 5
    assert isinstance(error, Exhausted)
    assert error.error_code == "endpoint_busy"


@pytest.mark.parametrize(
    "broken",
    [
        Reply(parts=[event("lost"), b'data: {"choices": [{"del\n\n', *WHOLE[1:]]),
        Reply(parts=[event("lost"), b"data: [1, 2]\n\n", *WHOLE[1:]]),
        Reply(parts=[event("lost"), b'data: {"error": {"message": "overloaded"}}\n\n']),
        Reply(parts=[event("lost"), DONE]),
        Reply(parts=[event("lost")], cut=True),
        Reply(parts=[b'data: {"choices": ' + b"[" * 100_000 + b"\n\n"]),
        Reply(parts=[b"<html>moved</html>"]),
        fault(500),
    ],
)
def test_an_answer_that_breaks_off_is_tried_again(broken: Reply) -> None:
    with scripted(broken, Reply()) as server:
        (answer,) = ask(local(server))
    assert (answer.text, answer.again) == ("lost card", 1)
    with scripted(broken) as server:
        assert refused(local(server)).error_code == "endpoint_unavailable"


def test_an_answer_without_end_is_broken_off() -> None:
    with scripted(Reply(parts=[b"data: " + b"x" * (1 << 20)] * 20)) as server:
        assert refused(local(server)).error_code == "endpoint_unavailable"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(status: int) -> None:
    with scripted() as other, scripted(Reply(status, (), {"location": f"{other.url}/v1/chat/completions"})) as server:
        refused(local(server))
        assert other.asked == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (fault(401), "endpoint_refused"),
        (fault(403), "endpoint_refused"),
        (fault(404), "endpoint_model_missing"),
        (fault(400), "endpoint_request"),
        (fault(400, code="context_length_exceeded"), "prompt_too_long"),
        (fault(418), "endpoint_unavailable"),
    ],
)
def test_what_is_refused_for_good_is_asked_once(reply: Reply, code: str) -> None:
    with scripted(reply) as server:
        assert refused(local(server)).error_code == code
        assert len(server.asked) == 1


def test_parameters_that_a_model_does_not_take_are_left_out() -> None:
    script = (fault(400, param="max_tokens"), fault(400, param="temperature"), Reply())
    with scripted(*script) as server:
        assert [answer.again for answer in ask(local(server), times=2)] == [0, 0]
        assert "max_tokens" not in server.asked[-1]
        assert server.asked[-1]["max_completion_tokens"] == 8
        assert "temperature" not in server.asked[-1]
        assert len(server.asked) == 4, "what was learned once is not asked again"


@pytest.mark.parametrize(
    "reply",
    [
        fault(400, code="content_filter"),
        Reply(parts=[event(finish_reason="content_filter", delta={}), USAGE]),
        Reply(parts=[event(delta={"refusal": "I cannot"}), event(finish_reason="stop", delta={})]),
    ],
)
def test_what_the_server_would_not_answer(reply: Reply) -> None:
    with scripted(reply) as server:
        (answer,) = ask(local(server))
    assert answer.refused


def test_what_it_says_of_itself_is_cut_and_counted_with_care() -> None:
    odd = b'data: {"model": "' + b"m" * 5000 + b'", "system_fingerprint": 7, "choices": [], "usage": {"prompt_tokens": -3}}\n\n'
    with scripted(Reply(parts=[odd, event("hi", model="", finish_reason="stop")])) as server:
        (answer,) = ask(local(server))
    assert len(answer.model) == 200
    assert answer.prompt_tokens == 0


def test_a_key_that_is_missing_is_not_asked_for_elsewhere() -> None:
    def missing() -> str:
        raise Unavailable("the key is not to be had", "set it", code="endpoint_key_missing")

    with scripted() as server:
        assert refused(local(server), key=missing).error_code == "endpoint_key_missing"
        assert server.asked == []


def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted() as server:
        ask(local(server))
    assert KEY not in caplog.text


def test_a_local_address_is_asked_only_where_an_admin_allowed_it() -> None:
    with scripted() as server:
        with pytest.raises(Forbidden) as found:
            ask(endpoint(url=server.url.replace("http:", "https:")))
        assert server.asked == []
    assert found.value.error_code == "address_private"


@contextmanager
def _remote() -> Iterator[EndpointClient]:
    with scripted() as server:
        yield OpenAiEndpoint(local(server), MODEL, lambda: KEY)


@contextmanager
def _memory() -> Iterator[EndpointClient]:
    yield MemoryEndpoint(lambda _: "lost card", model=MODEL, fingerprint="fp_1")


@pytest.mark.parametrize("opened", [_remote, _memory])
def test_contract_of_both_clients(opened: Callable[[], object]) -> None:
    async def story(client: EndpointClient) -> None:
        whole = await client.answer(PROMPT, Sampling(max_tokens=8))
        pieces = [piece async for piece in client.stream(PROMPT, Sampling(max_tokens=8))]
        assert "".join(piece.text for piece in pieces) == whole.text == "lost card"
        assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["stop"]
        assert (pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)
        assert (whole.model, whole.fingerprint) == (pieces[-1].model, pieces[-1].fingerprint) == (MODEL, "fp_1")
        assert not whole.refused
        await client.close()

    with opened() as client:  # type: ignore[attr-defined]
        asyncio.run(story(client))


def test_a_stream_is_tried_once() -> None:
    async def story(made: Endpoint) -> None:
        client = OpenAiEndpoint(made, MODEL, lambda: KEY)
        with pytest.raises(Exhausted):
            async for _ in client.stream(PROMPT, Sampling()):
                pass
        await client.close()

    with scripted(fault(429, {"retry-after": "30"})) as server:
        asyncio.run(story(local(server)))
        assert len(server.asked) == 1
