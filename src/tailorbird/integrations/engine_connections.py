"""Connections to an engine process: HTTP/1.1 with one answer of a known length to each request, which a gateway asks for each of its own.

A client library for every kind of server takes more of a gateway's time than all else that it does for a label (httpx: 1.4 of 3.5 ms of a
busy core). The peer is ours, started by us and known by its secret; what it says beyond this much is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

#: How the address of a Unix socket begins.
UNIX = "unix:"
#: The status of an answer without a body, and the lowest of those of a server that failed, which may not say how long their text is.
_NO_CONTENT, _FAILED = 204, 500
#: Connections that are kept, and bytes that the head of an answer has at most.
_MOST_IDLE, _LONGEST_HEAD = 64, 2**16


class EngineAnswer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


@dataclass(eq=False)
class _Connection:
    """A connection, and since when it is idle (seconds of the monotonic clock)."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float = 0.0

    @property
    def is_open(self) -> bool:
        """False where the other end has closed it."""
        return not (self.reader.at_eof() or self.writer.is_closing())

    async def ask(self, sent: bytes) -> tuple[EngineAnswer, bool]:
        """The answer to the request ``sent``, and whether another may follow. Raises OSError, EOFError (it was cut off), ValueError (it is
        no such answer)."""
        self.writer.write(sent)
        await self.writer.drain()
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise ValueError("the head of an answer does not end") from error
        first, *lines = head.decode("latin-1").lower().split("\r\n")
        version, code, *_ = first.split(" ", 2)
        told = dict(line.split(":", 1) for line in lines if line)
        status, length = int(code), told.get("content-length", "").strip()
        if version != "http/1.1" or not (length.isdecimal() or status == _NO_CONTENT or status >= _FAILED):
            raise ValueError("an answer of unknown length")
        body = await self.reader.readexactly(int(length or 0))
        goes_on = told.get("connection", "").strip() != "close" and (bool(length) or status == _NO_CONTENT)
        return EngineAnswer(status, body), goes_on


class EngineConnections:
    """Asks the engine at ``url`` (``unix:PATH``, or ``http://host:port``) with ``headers`` in each request. To be used in one event loop.

    ``connect`` seconds may pass until there is a connection. One that was idle for ``kept`` seconds is not used again.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, connect: float, kept: float) -> None:
        self._url, self._connect, self.kept = url, connect, kept
        self._head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "engine", **headers}.items())
        self._idle = deque[_Connection]()

    async def ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str], seconds: float) -> EngineAnswer:
        """The answer, within so many ``seconds``. Raises OSError (TimeoutError among them), EOFError, ValueError. Whoever is cancelled
        hangs up, which ends what the engine does for it."""
        content = (body or "").encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sent = f"{method} {path} HTTP/1.1\r\n{self._head}{lines}content-length: {len(content)}\r\n\r\n".encode("latin-1") + content
        connection = self._kept_one() or await self._opened()
        goes_on = False
        try:
            async with asyncio.timeout(seconds):
                answer, goes_on = await connection.ask(sent)
        finally:
            self._keep(connection) if goes_on else connection.writer.transport.abort()
        return answer

    def close(self) -> None:
        """Gives up the idle connections."""
        while self._idle:
            self._idle.pop().writer.close()

    def _kept_one(self) -> _Connection | None:
        """The connection that was used last, if it may still be used; those that were not for long are closed."""
        until = time.monotonic() - self.kept
        while self._idle and self._idle[0].since < until:
            self._idle.popleft().writer.close()
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
            connection.writer.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.since = time.monotonic()
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.writer.close()

    async def _opened(self) -> _Connection:
        path = self._url.removeprefix(UNIX)
        async with asyncio.timeout(self._connect):
            if path != self._url:
                return _Connection(*await asyncio.open_unix_connection(path, limit=_LONGEST_HEAD))
            place = urlsplit(self._url)
            return _Connection(*await asyncio.open_connection(place.hostname, place.port, limit=_LONGEST_HEAD))
