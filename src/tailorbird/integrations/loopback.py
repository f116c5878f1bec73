"""Driver for our own engine process, over HTTP on the loopback interface."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import Internal, TailorbirdError, Unauthenticated, Unavailable
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import (
    Chunk,
    Embeddings,
    EmbedRequest,
    EngineDriver,
    EngineState,
    GenerateRequest,
    LabelScores,
    LoadRequest,
    ProbeRequest,
    Ranked,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
)
from tailorbird.system.request_id import REQUEST_ID_HEADER, request_id

#: Seconds: to connect, for a quick question, for an answer that may queue behind others, for a load.
_CONNECT, _QUICK, _ANSWER, _LOAD = 2.0, 5.0, 300.0, 900.0
#: Seconds to connect on this machine: who is gone refuses at once, so that only a machine without a free core takes long.
_CONNECT_HERE = 20.0
#: The lowest status of an answer that is an error.
_REFUSED = 300
#: Seconds that an idle connection is kept for the next call. Servers close it after five (uvicorn's default): a call that is sent in the
#: moment in which the server closes gets no answer.
_KEPT_IDLE = 2.0


def open_driver(url: str, secret: str) -> EngineDriver:
    """A driver for the engine at ``url``: ``unix:PATH`` of its socket, or ``http://…``. Nothing is sent until the first call."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEPT_IDLE)
    path, head = url.removeprefix(UNIX), {"authorization": f"Bearer {secret}"}
    connect = _CONNECT if path == url else _CONNECT_HERE
    client = httpx.AsyncClient(
        base_url=url if path == url else "http://engine",
        headers=head,
        timeout=httpx.Timeout(_ANSWER, connect=connect),
        transport=httpx.AsyncHTTPTransport(uds=None if path == url else path, limits=limits, trust_env=False),
        trust_env=False,
    )
    return LoopbackDriver(EngineConnections(url, head, connect=connect, kept=_KEPT_IDLE), client)


class LoopbackDriver:
    """Implements ``EngineDriver``: over ``connections``, and for streams over an HTTP client whose base URL is the engine's."""

    def __init__(self, connections: EngineConnections, client: httpx.AsyncClient) -> None:
        self._connections, self._client = connections, client

    async def load(self, request: LoadRequest) -> None:
        """Returns once the release is ready. Raises what the engine refuses with."""
        await self._call("POST", "/load", request, seconds=_LOAD)

    async def unload(self, release: Digest) -> None:
        """Frees a release after its calls have ended."""
        await self._send("POST", "/unload", json.dumps({"release": release}), seconds=_ANSWER)

    async def loaded(self) -> tuple[Digest, ...]:
        """Ids of the loaded releases."""
        answer = await self._send("GET", "/loaded", None, seconds=_QUICK)
        return tuple(json.loads(answer.body))

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """Log-probabilities of ``labels`` as complete answers to ``prompt``."""
        request = ScoreRequest(release=release, prompt=tuple(prompt), labels=tuple(labels), groups=groups)
        return LabelScores.model_validate_json(await self._call("POST", "/score", request, seconds=_ANSWER))

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """One answer, piece by piece; closing the iterator closes the connection, which ends the generation."""
        body = GenerateRequest(release=release, prompt=tuple(prompt), sampling=sampling, groups=groups).model_dump_json()
        with _reached(httpx.TransportError):
            async with self._client.stream("POST", "/generate", content=body, headers=_headers()) as response:
                if response.is_error:
                    raise _rebuilt(await response.aread())
                async for line in response.aiter_lines():
                    yield _chunk(line)

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """Entries that the release retrieves for ``text``."""
        request = RetrieveRequest(release=release, text=text, groups=groups, count=count)
        answer = await self._call("POST", "/retrieve", request, seconds=_ANSWER)
        return [RetrievedEntry.model_validate(one) for one in json.loads(answer)]

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """``documents`` in the order in which the release ranks them."""
        request = RankRequest(release=release, text=text, documents=tuple(documents), count=count)
        return Ranked.model_validate_json(await self._call("POST", "/rank", request, seconds=_ANSWER))

    async def embed(self, release: Digest, texts: Sequence[str]) -> Embeddings:
        """``texts`` as the release reads a query."""
        request = EmbedRequest(release=release, texts=tuple(texts))
        return Embeddings.model_validate_json(await self._call("POST", "/embed", request, seconds=_ANSWER))

    async def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """How the answers to some prompts begin."""
        answer = await self._call("POST", "/probe", request, seconds=_ANSWER)
        return [TokenChances.model_validate(one) for one in json.loads(answer)]

    async def state(self) -> EngineState:
        """State of the engine."""
        answer = await self._send("GET", "/state", None, seconds=_QUICK)
        return EngineState.model_validate_json(answer.body)

    async def ready(self) -> bool:
        """True when the engine answers."""
        try:
            await self._send("GET", "/healthz", None, seconds=_QUICK)
        except TailorbirdError:
            return False
        return True

    async def close(self) -> None:
        """Closes the connections; the engine goes on."""
        self._connections.close()
        await self._client.aclose()

    async def _call(self, method: str, path: str, request: Value, *, seconds: float) -> bytes:
        return (await self._send(method, path, request.model_dump_json(), seconds=seconds)).body

    async def _send(self, method: str, path: str, body: str | None, *, seconds: float) -> EngineAnswer:
        with _reached(OSError, EOFError, ValueError):
            answer = await self._connections.ask(method, path, body, _headers(), seconds)
        if answer.status >= _REFUSED:
            raise _rebuilt(answer.body)
        return answer


def _headers() -> dict[str, str]:
    """With the id of the request that is worked on, so that the engine's log names it too."""
    asked = request_id.get()
    return {"content-type": "application/json"} | ({REQUEST_ID_HEADER: asked} if asked else {})


@contextmanager
def _reached(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise Unavailable(
            "the model process does not answer", "try again in a few seconds: it is restarted by itself", code="engine_unavailable"
        ) from error


def _chunk(line: str) -> Chunk:
    if line.startswith('{"error"'):
        raise _rebuilt(json.dumps(json.loads(line)["error"]).encode())
    return Chunk.model_validate_json(line)


def _rebuilt(body: bytes) -> TailorbirdError:
    """The error that the engine raised. What is not one of ours is a defect; a refused secret is not the caller's fault."""
    try:
        told: dict[str, Any] = json.loads(body)
        kind, message, hint, code = _KINDS[told["kind"]], str(told["message"]), str(told["hint"]), str(told["code"])
    except (ValueError, KeyError, TypeError):
        return Internal("the model process answered with something that is not an answer", "look at its log", code="engine_defect")
    if kind is Unauthenticated:
        return Unavailable(
            "the model process belongs to another gateway", "stop it, then start tailorbird serve again", code="engine_secret"
        )
    return kind(message, hint, code=code)


def _family(root: type[TailorbirdError]) -> Iterator[type[TailorbirdError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


#: Name of an error to its class, over the whole tree.
_KINDS = {kind.__name__: kind for kind in _family(TailorbirdError)}


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
