"""Bytes on a connection, and bodies of requests: an answer of HTTP, or the connection's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from support.damage import damaged, tries
from tailorbird.processes.http_servers import LimitedConfig, TimeoutProtocol

REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\n",
]


class Wire(asyncio.Transport):
    """The other end of the connection, which keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("203.0.113.9", 4711), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing more comes anyway."""

    def resume_reading(self) -> None:
        """Nothing more comes anyway."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Only an upgrade asks for it, and there is none."""
        raise AssertionError(protocol)


async def application(_scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def converse(pieces: list[bytes]) -> bytes:
    """What comes back when ``pieces`` arrive one after another. Whatever the loop would only have logged is raised."""
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    config = LimitedConfig(application, lifespan="off", log_config=None, http=TimeoutProtocol)
    config.load()
    protocol, wire = TimeoutProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            protocol.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
    protocol.connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    assert not failures, failures
    return wire.written


@tries(80)
@given(data=damaged(REQUESTS), cuts=st.lists(st.integers(0, 400), max_size=4))
def test_bytes_on_a_connection(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [data[start:stop] for start, stop in pairwise(places)]
    answer = asyncio.run(converse(pieces))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answer
