"""The client of hosted models, on real servers of the protocol: our own gateway, and servers that are slow, failing or lying."""

from __future__ import annotations

import asyncio
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from unittest.mock import patch

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.doubles import MemoryEndpoint
from support.hosted import DONE, MODEL, USAGE, WHOLE, Reply, ScriptedServer, endpoint, event, fault, scripted
from tailorbird.domain.deployment import most_read
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Exhausted, Forbidden, TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient, HostedAnswer, HostedChunk
from tailorbird.serving.hosted_models import STOOD_IN_FOR

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


def stream_once(made: Endpoint) -> None:
    async def story() -> None:
        client = OpenAiEndpoint(made, MODEL, lambda: KEY)
        try:
            async for _ in client.stream(PROMPT, Sampling(max_tokens=200)):
                pass
        finally:
            await client.close()

    asyncio.run(story())


@contextmanager
def raw_answers(status: int, parts: Sequence[bytes], headers: dict[str, str], *, cut: bool = False) -> Iterator[OpenAiEndpoint]:
    """A client whose server answers with these bytes, without a network between."""

    class Parts(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for part in parts:
                yield part
            if cut:
                raise httpx.ReadError("reset")

    async def handle(request: httpx.Request) -> httpx.Response:
        told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return httpx.Response(status, headers=told, stream=Parts())

    client = OpenAiEndpoint(endpoint(url="http://127.0.0.1:9", private=True), MODEL, lambda: KEY, first_wait=0.0)
    with patch.object(httpx.AsyncHTTPTransport, "handle_async_request", staticmethod(handle)):
        yield client


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


def test_one_that_is_slow_is_given_up_and_tried_again() -> None:
    with scripted(Reply(pause=30.0)) as server:
        error = refused(local(server, timeout_s=0.05))
        assert len(server.asked) == 5
    assert error.error_code == "endpoint_unavailable"
    assert "0.05 s" in str(error)


def test_a_rate_limit_is_waited_for() -> None:
    with scripted(fault(429, {"retry-after": "0.02"}), fault(503), Reply()) as server:
        (answer,) = ask(local(server))
    assert (answer.text, answer.again) == ("lost card", 2)


@pytest.mark.parametrize(
    "named",
    [
        "0.01",
        "",
        "soon",
    ],
)
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
        Reply(parts=[event("lost"), DONE]),
        Reply(parts=[event("lost")], cut=True),
        Reply(parts=[b'data: {"choices": ' + b"[" * 100_000 + b"\n\n"]),
        Reply(parts=WHOLE, headers={"content-encoding": "gzip"}),
        Reply(parts=[event("lost", delta={"content": 5}), *WHOLE[1:]]),
        Reply(parts=[event("half a character: \ud83d"), *WHOLE[1:]]),
        fault(500),
    ],
)
def test_an_answer_that_breaks_off_is_tried_again(broken: Reply) -> None:
    with scripted(broken, Reply()) as server:
        (answer,) = ask(local(server))
    assert (answer.text, answer.again) == ("lost card", 1)
    with scripted(broken) as server:
        assert refused(local(server)).error_code == "endpoint_unavailable"


def test_a_server_that_does_not_stream_is_told_so_and_asked_once() -> None:
    whole = json.dumps({"model": MODEL, "choices": [{"message": {"content": "lost card"}, "finish_reason": "stop"}]}).encode()
    with scripted(Reply(parts=[whole], headers={"content-type": "application/json; charset=utf-8"})) as server:
        error = refused(local(server))
        assert "in one piece" in error.message
        assert "stream" in error.hint
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "status",
    [
        302,
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "/v1/chat/completions",
        "http://a@169.254.169.254/",
    ],
)
def test_a_redirect_is_not_followed(status: int, place: str) -> None:
    with scripted() as other, scripted(Reply(status, (), {"location": other.url + place if place.startswith("/v1") else place})) as server:
        assert refused(local(server)).error_code == "endpoint_unavailable"
        assert other.asked == []


#: What a server may write between its good pieces, or instead of them.
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "usage", "model", "error", "finish_reason", "param", "code"]), inner
        )
    ),
    max_leaves=12,
)
_LINES = _JSON.map(lambda value: f"data: {json.dumps(value)}\n\n".encode())
_PARTS = st.lists(st.sampled_from(WHOLE) | _LINES | st.binary(min_size=1, max_size=64) | st.just(b"data: {"), max_size=6)
_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "location", "content-encoding", "content-type", "set-cookie"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
)


@given(st.sampled_from([200, 204, 302, 400, 401, 404, 413, 429, 500]), _PARTS, _HEADERS, st.booleans())
def test_whatever_a_server_says_is_an_answer_or_a_coded_error(status: int, parts: list[bytes], headers: dict[str, str], cut: bool) -> None:
    async def story(client: OpenAiEndpoint) -> None:
        told: list[HostedChunk] = []
        found: TailorbirdError | None = None
        try:
            async with aclosing(client.stream(PROMPT, Sampling(max_tokens=8))) as pieces:
                told += [piece async for piece in pieces]
        except TailorbirdError as error:
            found = error
        finally:
            await client.close()
        if found is not None:
            assert found.error_code in STOOD_IN_FOR | {"prompt_too_long"}
            assert KEY not in found.message + found.hint
        else:
            assert told[-1].finish_reason in ("stop", "length")
            assert all(count >= 0 for count in (told[-1].prompt_tokens, told[-1].completion_tokens))

    with raw_answers(status, parts, headers, cut=cut) as client:
        asyncio.run(story(client))


@given(st.binary(max_size=300) | st.builds(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest, st.binary(max_size=200)))
def test_whatever_bytes_a_server_sends_are_a_coded_error(sent: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = OpenAiEndpoint(endpoint(url=f"http://127.0.0.1:{port}", private=True, timeout_s=5.0), MODEL, lambda: KEY)
        with pytest.raises(TailorbirdError) as found:
            async for _ in client.stream(PROMPT, Sampling(max_tokens=8)):
                pass
        assert found.value.error_code in STOOD_IN_FOR
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(story())


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"data: [" + b"{}," * 100_000,
        zlib.compress(b"0" * 4_000_000),
    ],
)
@pytest.mark.parametrize(
    "status",
    [
        200,
    ],
)
def test_memory_is_bounded_whatever_a_server_sends(line: bytes, status: int) -> None:
    packed = {"content-encoding": "deflate"} if line.startswith(b"\x78") else {}

    async def story(client: OpenAiEndpoint) -> None:
        with pytest.raises(TailorbirdError):
            async for _ in client.stream(PROMPT, Sampling(max_tokens=8)):
                pass
        await client.close()

    tracemalloc.start()
    try:
        with raw_answers(status, [line * max(1, (256 << 10) // len(line))] * 256, packed) as client:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            asyncio.run(story(client))
            assert tracemalloc.get_traced_memory()[1] - before < 8 << 20
    finally:
        tracemalloc.stop()


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


def test_tries_that_gave_no_whole_answer_may_have_to_be_paid() -> None:
    broken, away = Reply(parts=[event("lost"), event(" c")], cut=True), fault(503)

    async def story(server: ScriptedServer) -> None:
        client = OpenAiEndpoint(local(server), MODEL, lambda: KEY, first_wait=0.01)
        answer = await client.answer(PROMPT, Sampling(max_tokens=8))
        assert (answer.again, answer.prompt_tokens, answer.estimated) == (2, 7, False)
        assert client.lost == (most_read(PROMPT), len("lost c"))
        async with aclosing(client.stream(PROMPT, Sampling(max_tokens=8))) as pieces:
            assert (await anext(pieces)).text == "lost"
        assert client.lost == (2 * most_read(PROMPT), len("lost c") + len("lost"))
        await client.close()

    with scripted(broken, away, Reply()) as server:
        asyncio.run(story(server))


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
        assert [piece.written for piece in pieces] == [len(piece.text) for piece in pieces]
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


@pytest.mark.parametrize(
    ("reply", "silent"),
    [
        (Reply(pause=30.0), True),
        (Reply(parts=[event("a")] * 40, pause=0.05), False),
        (Reply(parts=[event(delta={"role": "assistant", "content": ""}), *[b": still here\n\n"] * 40], pause=0.05), True),
        (Reply(parts=[event("a")], cut=True), False),
        (fault(503), False),
    ],
)
def test_a_server_that_says_nothing_is_told_from_one_that_is_slow_or_refuses(reply: Reply, silent: bool) -> None:
    with scripted(reply) as server, pytest.raises(TailorbirdError) as found:
        stream_once(local(server, timeout_s=0.4))
    assert getattr(found.value, "silent", False) is silent
