"""Client of our own engine process: HTTP over a Unix socket, or over the loopback interface."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from tailorbird.domain.errors import Internal, TailorbirdError, Unauthenticated, Unavailable, rebuilt
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import QUESTIONS, A, Chunk, EngineDriver, EngineState, GenerateRequest, LoadRequest, Question
from tailorbird.system.request_id import REQUEST_ID_HEADER, request_id

#: Seconds: for a quick question, for an answer that may queue behind others (or its next piece), for a load.
_QUICK, _ANSWER, _LOAD = 5.0, 300.0, 900.0
#: Seconds to connect; on this machine who is gone refuses at once, so that only a machine without a free core takes long.
_CONNECT, _CONNECT_HERE = 2.0, 20.0
#: Seconds that an idle connection is kept for the next call. Servers close it after five (uvicorn's default): a call that is sent in the
#: moment in which the server closes gets no answer.
_KEPT_IDLE = 2.0
#: How the address of a Unix socket begins.
UNIX = "unix:"
#: The status of an answer without a body, and the lowest of errors and of those of a server that failed, which may not say how long
#: their text is.
_NO_CONTENT, _REFUSED, _FAILED = 204, 300, 500
#: Connections that are kept, and bytes that the head of an answer has at most.
_MOST_IDLE, _LONGEST_HEAD = 64, 2**16

_PATHS = {kind: (path, answers) for path, (kind, answers) in QUESTIONS.items()}


def open_driver(url: str, secret: str) -> EngineDriver:
    """A driver for the engine at ``url``: ``unix:PATH`` of its socket, or ``http://…``. Nothing is sent until the first call."""
    connect = _CONNECT_HERE if url.startswith(UNIX) else _CONNECT
    return LoopbackDriver(EngineConnections(url, {"authorization": f"Bearer {secret}"}, connect=connect, kept=_KEPT_IDLE))


class LoopbackDriver:
    """Implements ``EngineDriver`` over ``connections``."""

    def __init__(self, connections: EngineConnections) -> None:
        self._connections = connections

    async def load(self, request: LoadRequest) -> None:
        """Returns once the release is ready. Raises what the engine refuses with."""
        await self._send("POST", "/load", request.model_dump_json(), _LOAD)

    async def unload(self, release: Digest) -> None:
        """Frees a release after its calls have ended."""
        await self._send("POST", "/unload", json.dumps({"release": release}), _ANSWER)

    async def ask(self, request: Question[A]) -> A:
        """The answer to one question."""
        if isinstance(request, GenerateRequest):
            return cast(A, self._stream(request))
        path, answers = _PATHS[type(request)]
        answer: A = answers.validate_json(await self._send("POST", path, request.model_dump_json(), _ANSWER))
        return answer

    async def status(self) -> EngineState:
        """State of the engine."""
        return EngineState.model_validate_json(await self._send("GET", "/status", None, _QUICK))

    async def close(self) -> None:
        """Closes the connections; the engine goes on."""
        self._connections.close()

    async def _send(self, method: str, path: str, body: str | None, seconds: float) -> bytes:
        with _reached():
            answer = await self._connections.ask(method, path, body, _headers(), seconds)
        if answer.status >= _REFUSED:
            raise _rebuilt(answer.body)
        return answer.body

    async def _stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One answer, piece by piece; closing the iterator closes the connection, which ends the generation."""
        with _reached():
            async with aclosing(self._connections.lines("/generate", request.model_dump_json(), _headers(), _ANSWER)) as lines:
                async for line in lines:
                    if line.startswith(b'{"error"'):
                        raise _rebuilt(json.dumps(json.loads(line)["error"]).encode())
                    yield Chunk.model_validate_json(line)


def _headers() -> dict[str, str]:
    """With the id of the request that is worked on, so that the engine's log names it too."""
    current = request_id.get()
    return {"content-type": "application/json"} | ({REQUEST_ID_HEADER: current} if current else {})


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError) as error:
        raise Unavailable(
            "the model process does not answer", "try again in a few seconds: it is restarted by itself", code="engine_unavailable"
        ) from error


def _rebuilt(body: bytes) -> TailorbirdError:
    """The error that the engine raised. What is not one of ours is a defect; a refused secret is not the caller's fault."""
    try:
        told = json.loads(body)
        error = rebuilt(_KINDS[told["kind"]], told)
    except (ValueError, KeyError, TypeError):
        return Internal("the model process answered with something that is not an answer", "look at its log", code="engine_defect")
    if isinstance(error, Unauthenticated):
        return Unavailable(
            "the model process belongs to another gateway", "stop it, then start tailorbird serve again", code="engine_secret"
        )
    return error


def _family(root: type[TailorbirdError]) -> Iterator[type[TailorbirdError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


#: Name of an error to its class, over the whole tree.
_KINDS = {kind.__name__: kind for kind in _family(TailorbirdError)}


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

    async def head(self, sent: bytes) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to the request ``sent``. Raises OSError, EOFError (it was cut off), ValueError (it is none)."""
        self.writer.write(sent)
        await self.writer.drain()
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise ValueError("the head of an answer does not end") from error
        first, *lines = head.decode("latin-1").lower().split("\r\n")
        version, code, *_ = first.split(" ", 2)
        if version != "http/1.1":
            raise ValueError("this is no answer")
        return int(code), {name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    async def body(self, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether another request may follow. Raises as ``head``."""
        length = headers.get("content-length", "")
        if not (length.isdecimal() or status == _NO_CONTENT or status >= _FAILED):
            raise ValueError("an answer of unknown length")
        goes_on = headers.get("connection") != "close" and (bool(length) or status == _NO_CONTENT)
        return await self.reader.readexactly(int(length or 0)), goes_on


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
        sent, connection, goes_on = self._request(method, path, body, headers), await self._connection(), False
        try:
            async with asyncio.timeout(seconds):
                status, told = await connection.head(sent)
                content, goes_on = await connection.body(status, told)
        finally:
            self._keep(connection) if goes_on else connection.writer.transport.abort()
        return EngineAnswer(status, content)

    async def lines(self, path: str, body: str, headers: Mapping[str, str], seconds: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that comes in chunks, each within so many ``seconds``. Raises as ``ask``, and what the engine refuses
        with; whoever leaves before the end hangs up."""
        sent, connection, goes_on = self._request("POST", path, body, headers), await self._connection(), False
        try:
            async with asyncio.timeout(seconds):
                status, told = await connection.head(sent)
                if status >= _REFUSED:
                    content, goes_on = await connection.body(status, told)
                    raise _rebuilt(content)
            if told.get("transfer-encoding") != "chunked":
                raise ValueError("this is no stream")
            size, left = -1, b""
            while size:
                async with asyncio.timeout(seconds):
                    size = int((await connection.reader.readuntil(b"\r\n")).partition(b";")[0], 16)
                    left += (await connection.reader.readexactly(size + 2))[:-2]
                *whole, left = left.split(b"\n")
                for line in whole:
                    yield line
            goes_on = told.get("connection") != "close"
        finally:
            self._keep(connection) if goes_on else connection.writer.transport.abort()

    def close(self) -> None:
        """Gives up the idle connections."""
        while self._idle:
            self._idle.pop().writer.close()

    def _request(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> bytes:
        content = (body or "").encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{self._head}{lines}content-length: {len(content)}\r\n\r\n".encode("latin-1") + content

    async def _connection(self) -> _Connection:
        """The connection that was used last, if it may still be used, or a new one; those that were idle for long are closed."""
        until = time.monotonic() - self.kept
        while self._idle and self._idle[0].since < until:
            self._idle.popleft().writer.close()
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
            connection.writer.close()
        path = self._url.removeprefix(UNIX)
        async with asyncio.timeout(self._connect):
            if path != self._url:
                return _Connection(*await asyncio.open_unix_connection(path, limit=_LONGEST_HEAD))
            place = urlsplit(self._url)
            return _Connection(*await asyncio.open_connection(place.hostname, place.port, limit=_LONGEST_HEAD))

    def _keep(self, connection: _Connection) -> None:
        connection.since = time.monotonic()
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.writer.close()
