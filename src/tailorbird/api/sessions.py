"""Sessions over HTTP: login, logout, and the actor behind a request.

Whoever shows a session by cookie and changes something must also show that a page of ours sent the request (``auth/request_checks.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, TypeVar

from fastapi import APIRouter, Request, Response

from tailorbird.api.authentication import LOG_IN, LOG_OUT
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import SESSION, json_body
from tailorbird.api.request_context import TENANT, read_body, read_json_value, read_object, require_type
from tailorbird.auth import request_checks
from tailorbird.auth.request_checks import COOKIE
from tailorbird.domain.errors import Exhausted, Forbidden, InvalidInput, Unauthenticated
from tailorbird.domain.identity import Identity, Login, Signature
from tailorbird.domain.value import Value
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.sessions import SESSION_LASTS, LoginEntry, actor_of, end_session

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of the control plane, for which no other part of the server waits: those in which calls are worked on, and those that look who
#: calls, log somebody in and take the parts of an upload, so that long calls keep nobody outside.
_AT_ONCE, _SHORT = 8, 4
#: Calls of one tenant that are worked on at once, and that wait for their turn.
_AT_ONCE_EACH, _WAITING_EACH = 3, 64
_LARGEST_LOGIN = 2**14
_READING = frozenset({"GET", "HEAD"})


class LoginRequest(Value):
    """A login, signed for the purpose ``login``. With ``cookie`` the session is also kept by the browser."""

    login: Login
    signature: Signature
    cookie: bool = False


class LoginResponse(Value):
    """A session's secret, which is told this once, and whose session it is."""

    secret: str
    expires_at: datetime
    identity: Identity


@dataclass
class _TenantQueue:
    """The turns of one tenant; ``calls`` have one, or wait for one."""

    turns: asyncio.Semaphore
    calls: int = 0


class TenantTurns:
    """At most ``most`` calls of a tenant are worked on at once, and ``waiting`` more wait. Touched only from the event loop."""

    def __init__(self, most: int, waiting: int) -> None:
        self._most, self._waiting = most, waiting
        self._queues: dict[str, _TenantQueue] = {}

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a turn of ``tenant``. Raises Exhausted (429) where too many of its calls wait already."""
        queue = self._queues.setdefault(tenant, _TenantQueue(asyncio.Semaphore(self._most)))
        if queue.calls >= self._most + self._waiting:
            message = f"{queue.calls} calls of {tenant} are under way or waiting"
            raise Exhausted(message, "wait until some of them have ended", code="calls_at_once", retry_after=1.0)
        queue.calls += 1
        try:
            async with queue.turns:
                yield
        finally:
            queue.calls -= 1
            if not queue.calls:
                del self._queues[tenant]


@dataclass(frozen=True)
class SessionActors:
    """Finds the actor of a request, and does what blocks in threads of its own."""

    entrance: LoginEntry
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="control"))
    short: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_SHORT, thread_name_prefix="session"))
    turns: TenantTurns = field(default_factory=lambda: TenantTurns(_AT_ONCE_EACH, _WAITING_EACH))

    @property
    def deps(self) -> Dependencies:
        """The opened ports."""
        return self.entrance.deps

    async def actor(self, request: Request) -> Actor:
        """Actor of the session that ``request`` shows. Raises Unauthenticated, Forbidden (by cookie, and not from a page of ours)."""
        actor = await self.run(actor_of, self.deps, secret_of(request))
        request.scope[TENANT] = actor.tenant
        return actor

    async def run(self, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """The result of ``do``, which may block for a moment."""
        return await asyncio.get_running_loop().run_in_executor(self.short, lambda: do(*given, **named))

    async def run_for(self, tenant: str, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """The result of ``do``, which may take long, in the turn of ``tenant``. Raises Exhausted where too many of its calls wait."""
        async with self.turns.turn(tenant):
            return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: do(*given, **named))


def session_routes(sessions: SessionActors) -> APIRouter:
    """Logging in and logging out."""
    router = APIRouter(tags=["session"])

    @router.post(
        LOG_IN[1],
        operation_id="session.open",
        summary="Log in with an identity's key.",
        description="Opens a session for whoever signs the login with the key of an identity; the secret is told this once. The key never "
        "leaves its owner.",
        response_model=LoginResponse,
        responses=error_answers(400, 401, 413, 429, 500, 503),
        openapi_extra={"requestBody": json_body(LoginRequest)},
    )
    async def log_in(request: Request) -> Response:
        address = request.client.host if request.client else ""
        asked = await _read_opening(request)
        opened = await sessions.run(_open, sessions.entrance, asked, address)
        response = answer_with(opened)
        if asked.cookie:
            _keep(response, opened, secure=request.url.scheme == "https")
        return response

    @router.delete(
        LOG_OUT[1],
        operation_id="session.end",
        summary="End this session.",
        description="The secret is worth nothing from then on; a browser's cookie is taken away.",
        status_code=204,
        responses=error_answers(401, 403, 500, 503),
        dependencies=SESSION,
    )
    async def log_out(request: Request) -> Response:
        await sessions.run(end_session, sessions.deps, secret_of(request))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, **request_checks.cookie_settings(secure=request.url.scheme == "https"))
        return response

    return router


def answer_with(value: Value) -> Response:
    """``value`` as a JSON answer that nobody on the way keeps."""
    return Response(value.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})


def secret_of(request: Request) -> str:
    """The session's secret that ``request`` shows. Raises as ``Sessions.actor``."""
    given = request.headers.get("authorization")
    if given is None and COOKIE in request.cookies:
        if request.method not in _READING and not request_checks.sent_by_own_page(request.headers):
            raise Forbidden(
                "nothing says that a page of this server sent this", f"send the header: {request_checks.OWN_HEADER}: 1", code="csrf"
            )
        return request.cookies[COOKIE]
    scheme, _, secret = (given or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated(
            "no session was shown", "log in at POST /api/sessions, then send: authorization: Bearer tbs_...", code="session_missing"
        )
    return secret.strip()


async def _read_opening(request: Request) -> LoginRequest:
    body = await read_body(request, _LARGEST_LOGIN)
    require_type(request, "application/json")
    opening = read_json_value(LoginRequest, read_object(body, '{"login": {...}, "signature": {...}}'))
    for at, param in ((opening.login.at, "login.at"), (opening.signature.at, "signature.at")):
        if at.utcoffset() is None:
            raise InvalidInput(f"{param} has no time zone", "write times as 2026-01-31T12:00:00Z", code="invalid_value", param=param)
    return opening


def _open(entrance: LoginEntry, asked: LoginRequest, address: str) -> LoginResponse:
    session, secret = entrance.open(asked.login, asked.signature, address)
    return LoginResponse(secret=secret, expires_at=session.expires_at, identity=actor_of(entrance.deps, secret).identity)


def _keep(response: Response, opened: LoginResponse, *, secure: bool) -> None:
    response.set_cookie(
        COOKIE, opened.secret, request_checks.cookie_seconds(SESSION_LASTS), **request_checks.cookie_settings(secure=secure)
    )
