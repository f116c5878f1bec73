"""Request context from the first byte of a call to its last, with its share of engine time.

While n wait, each second gives everyone 1/n of a second. So the shares of all requests add up to the time in which anybody waited, however
many were answered together, and a request costs less where the engine answers many at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.metrics import Metrics
from tailorbird.serving import AnswerPiece
from tailorbird.system.request_id import new_request_id


class EngineShare:
    """The engine of one gateway. Touched only from the event loop."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at = now()
        self._waiting = 0
        self._each = 0.0

    def enter(self) -> float:
        """Somebody begins to wait; what is returned is to be given back to ``leave``."""
        self._advance()
        self._waiting += 1
        return self._each

    def leave(self, entered: float) -> float:
        """They have waited: their share of the engine since then, in seconds."""
        self._advance()
        self._waiting -= 1
        return self._each - entered

    def _advance(self) -> None:
        now = self._now()
        if self._waiting:
            self._each += (now - self._at) / self._waiting
        self._at = now


#: A browser that was here once by HTTPS does not come by HTTP for a year (RFC 6797).
_ONLY_ENCRYPTED = "max-age=31536000"
#: Where a call's scope says for whom it is, once the caller is known.
TENANT = "tailorbird.tenant"


@dataclass
class RequestContext:
    """``engine_seconds`` is the time that passed while the engine was being waited for, ``engine_share`` the part of it that was not
    somebody else's too."""

    id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.perf_counter)
    engine_seconds: float = 0.0
    engine_share: float = 0.0
    _waits: int = 0
    _since: float = 0.0

    @property
    def seconds(self) -> float:
        """Time since the call came in."""
        return time.perf_counter() - self.started

    @property
    def overhead_seconds(self) -> float:
        """Time since the call came in that was not spent waiting for the engine."""
        return self.seconds - self.engine_seconds

    async def timed(self, pieces: AsyncGenerator[AnswerPiece, None], engine: EngineShare) -> AsyncGenerator[AnswerPiece, None]:
        """``pieces`` as they come, with the waiting counted as the engine's."""
        try:
            while True:
                try:
                    with self._waiting(engine):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            await pieces.aclose()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time within the block is the engine's, and nobody's share of it: the release is loaded for all who will ask."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.engine_seconds += time.perf_counter() - started

    @contextmanager
    def _waiting(self, engine: EngineShare) -> Iterator[None]:
        """A call may wait for several answers at once: its seconds pass once."""
        asked, entered = time.perf_counter(), engine.enter()
        self._waits += 1
        if self._waits == 1:
            self._since = asked
        try:
            yield
        finally:
            self._waits -= 1
            self.engine_share += engine.leave(entered)
            if not self._waits:
                self.engine_seconds += time.perf_counter() - self._since


def current_call(request: Request) -> RequestContext:
    """The call that ``request`` belongs to."""
    call: RequestContext = request.scope["tailorbird.call"]
    return call


class RequestObserver:
    """Middleware: gives every HTTP call an id, tells it in the response, and counts it when it has ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = scope["tailorbird.call"] = RequestContext()
        status = 500

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-tailorbird-request-id"] = headers["x-request-id"] = call.id
                if scope.get("scheme") == "https":
                    headers["strict-transport-security"] = _ONLY_ENCRYPTED
                headers["x-tailorbird-overhead-ms"] = f"{1000 * call.overhead_seconds:.2f}"
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.count(route, scope["method"], status, call.seconds, call.overhead_seconds)
