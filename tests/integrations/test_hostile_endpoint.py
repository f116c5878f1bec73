"""Servers of hosted models that would take everybody's time, or have their words written into our logs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import pytest

from support.hosted import DONE, MODEL, USAGE, Reply, endpoint, event, scripted
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import HostedChunk

PROMPT = (Message(role="user", content="I lost my card"),)
KEY = "sk-very-secret"
ENDING = event(finish_reason="stop", delta={})


async def streamed(client: OpenAiEndpoint) -> list[HostedChunk]:
    async with aclosing(client.stream(PROMPT, Sampling(max_tokens=8))) as pieces:
        return [piece async for piece in pieces]


def ask(made: Endpoint) -> list[HostedChunk]:
    async def story() -> list[HostedChunk]:
        client = OpenAiEndpoint(made, MODEL, lambda: KEY)
        try:
            return await streamed(client)
        finally:
            await client.close()

    return asyncio.run(story())


def refused(made: Endpoint) -> str:
    with pytest.raises(TailorbirdError) as found:
        ask(made)
    assert found.value.error_code == "endpoint_unavailable"
    return str(found.value)


def test_a_name_server_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, looks = threading.Event(), list[str]()
    plain = socket.getaddrinfo

    def slow(host: Any, *given: Any, **named: Any) -> Any:
        if host != "slow.example":
            return plain(host, *given, **named)
        looks.append(host)
        answers.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    async def story() -> None:
        client = OpenAiEndpoint(endpoint(url="https://slow.example", timeout_s=30.0), MODEL, lambda: KEY)
        asking = [asyncio.create_task(streamed(client)) for _ in range(80)]
        try:
            await asyncio.sleep(0.05)
            # As a key is looked up, whoever's it is.
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "known"), 20) == "known"
        finally:
            answers.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in found)
        await client.close()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    asyncio.run(story())
    assert looks == ["slow.example"]


@contextmanager
def sending_on(sent: bytes) -> Iterator[str]:
    """The address of a server that sends these bytes again and again, whatever it is asked."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            while True:
                connection.sendall(sent)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_provisional_heads_without_end_are_broken_off() -> None:
    with sending_on(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000) as url:
        assert "broke the answer off" in refused(endpoint(url=url, private=True))


def test_an_answer_in_crumbs_is_broken_off() -> None:
    crumbs = [b":\n"] * 5000
    with scripted(Reply(parts=[*crumbs, event("a"), ENDING, USAGE, DONE])) as server:
        assert "broke the answer off" in refused(endpoint(url=server.url, private=True))


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("fp_44709d6fcb", "fp_44709d6fcb"),
        ("I lost my card", "digest-"),
        (f"fp_{KEY}", ""),
    ],
)
def test_a_fingerprint_holds_no_words_of_a_prompt_and_no_key(named: object, told: str) -> None:
    body = event("a").replace(b'"fp_1"', f'"{named}"'.encode() if isinstance(named, str) else b"7")
    ending = ENDING.replace(b'"fp_1"', b"null")
    with scripted(Reply(parts=[body, ending, USAGE, DONE])) as server:
        found = ask(endpoint(url=server.url, private=True))[-1].fingerprint
    assert found.startswith(told)
    assert bool(found) == bool(told)
    assert KEY not in found
    assert "card" not in found
