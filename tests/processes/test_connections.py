"""Who only holds connections open keeps nobody out; what two readers would read apart is refused."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Response

from support.processes import ASK, CHAT, Live, in_thread, live, wait_until
from support.serving import House
from tailorbird.processes import http_servers
from tailorbird.processes.http_servers import ConnectionLimits


@dataclass(eq=False)
class Held:
    """A connection."""

    is_answered: bool = False
    ended: bool = False

    def end(self) -> None:
        self.ended = True


def test_the_longest_waiting_one_has_to_go() -> None:
    door = ConnectionLimits(most=3)
    first, second, third = Held(), Held(), Held()
    assert all(door.enter(each) for each in (first, second, third))
    door.note(first)  # it has shown life
    assert door.enter(Held())
    assert (first.ended, second.ended, third.ended) == (False, True, False)


def test_one_that_is_answered_never_has_to_go() -> None:
    door = ConnectionLimits(most=2)
    busy, also = Held(), Held()
    for each in (busy, also):
        assert door.enter(each)
        each.is_answered = True
        door.note(each)
    assert not door.enter(Held())
    also.is_answered = False
    door.note(also)
    assert door.enter(Held())
    assert also.ended
    door.leave(busy)
    door.leave(busy)
    assert door.count == 1


def where(served: Live) -> tuple[str, int]:
    parts = urlsplit(served.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def test_dripping_connections_keep_nobody_out(house: House) -> None:
    """As many as there may be, and more, of the address of whoever asks, and of another."""
    house.point("routing", house.release())
    with live(house) as served, ExitStack() as stack:
        served.server.config.admission = ConnectionLimits(most=60)  # type: ignore[attr-defined]
        held = [stack.enter_context(socket.create_connection(where(served), 5, source_address=("127.0.0.2", 0))) for _ in range(150)]
        for each in held:
            try:
                each.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ")
            except ConnectionError:
                continue
        for _ in range(8):
            assert httpx.post(served.url + CHAT, json=ASK, headers=served.headers, timeout=20).status_code == 200
        assert served.server.config.admission.count <= 60  # type: ignore[attr-defined]


def large_answer() -> FastAPI:
    app = FastAPI()
    app.get("/large")(lambda: Response(bytes(20_000_000)))
    return app


def test_who_takes_nothing_of_an_answer_is_not_answered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is answered it gives way to nobody: a thousand of those would be all connections of an address."""
    monkeypatch.setattr(http_servers, "STALLED_SECONDS", 0.5)
    with in_thread(large_answer) as (url, server), socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((str(urlsplit(url).hostname), int(urlsplit(url).port or 0)))
        stalled.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert stalled.recv(16).startswith(b"HTTP/1.1 200")
        wait_until(lambda: not server.server_state.connections, 10)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\nhost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_what_a_proxy_might_read_otherwise_is_refused(house: House, head: bytes) -> None:
    with live(house) as served:
        with socket.create_connection(where(served), 5) as raw:
            raw.sendall(head)
            assert raw.recv(64).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(where(served), 5) as raw:
            raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert raw.recv(64).startswith(b"HTTP/1.1 200 ")
