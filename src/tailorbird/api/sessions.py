"""Sessions over HTTP: logging in, logging out, and whose session a request shows.

In: signed logins; ``authorization`` headers and cookies. Out: sessions, actors. Must not know: what the actor wants.

A cookie is sent by the browser whoever made the page, so a request that changes something and shows its session by cookie must also show
that a page of ours sent it: by the header ``x-tailorbird-csrf: 1`` (which a page of another site cannot add), or by what browsers say of
the sender, ``sec-fetch-site: same-origin`` or an ``origin`` with our host.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from tailorbird.api.body import read_body, require_type
from tailorbird.api.call import TENANT
from tailorbird.api.documenting import COOKIE, SESSION, json_body
from tailorbird.api.errors import error_answers, error_response
from tailorbird.api.policy import LOG_IN, LOG_OUT
from tailorbird.api.reading import read_json_value, read_object
from tailorbird.api.throttle import Throttle
from tailorbird.domain.errors import Exhausted, Forbidden, InvalidInput, Unauthenticated
from tailorbird.domain.identity import Identity, Login, Signature
from tailorbird.domain.value import Value
from tailorbird.lifecycle import Actor, Parts
from tailorbird.lifecycle.sessions import SESSION_LASTS, actor_of, end_session, open_session

P = ParamSpec("P")
T = TypeVar("T")

#: Calls of the control plane that are worked on at once; no other part of the server waits for their threads.
_AT_ONCE = 8
_LARGEST_LOGIN = 2**14
_READING = frozenset({"GET", "HEAD"})


class Opening(Value):
    """A login, signed for the purpose ``login``. With ``cookie`` the session is also kept by the browser."""

    login: Login
    signature: Signature
    cookie: bool = False


class Opened(Value):
    """A session's secret, which is told this once, and whose session it is."""

    secret: str
    expires_at: datetime
    identity: Identity


@dataclass(frozen=True)
class Sessions:
    """Finds the actor of a request, and does what blocks in threads of its own."""

    parts: Parts
    refusals: Throttle = field(default_factory=Throttle)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="control"))

    async def actor(self, request: Request) -> Actor:
        """Whose session ``request`` shows. Raises Unauthenticated, Forbidden (by cookie, and nothing says that a page of ours sent it)."""
        actor = await self.run(actor_of, self.parts, secret_of(request))
        request.scope[TENANT] = actor.tenant
        return actor

    async def run(self, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """The result of ``do``, which may block."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: do(*given, **named))


def session_routes(sessions: Sessions) -> APIRouter:
    """Logging in and logging out."""
    router = APIRouter(tags=["session"])

    @router.post(
        LOG_IN[1],
        operation_id="session.open",
        summary="Log in with an identity's key.",
        response_model=Opened,
        responses=error_answers(400, 401, 413, 429, 500, 503),
        openapi_extra={"requestBody": json_body(Opening)},
    )
    async def log_in(request: Request) -> Response:
        address = request.client.host if request.client else ""
        asked = await _read_opening(request)
        wait = sessions.refusals.begin(address)
        if wait > 0:
            return _too_often(wait)
        opened = await sessions.run(_open, sessions.parts, asked)
        sessions.refusals.succeed(address)
        response = answer_with(opened)
        if asked.cookie:
            _keep(response, opened, secure=request.url.scheme == "https")
        return response

    @router.delete(
        LOG_OUT[1],
        operation_id="session.end",
        summary="End this session.",
        status_code=204,
        responses=error_answers(401, 403, 500, 503),
        dependencies=SESSION,
    )
    async def log_out(request: Request) -> Response:
        await sessions.run(end_session, sessions.parts, secret_of(request))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def answer_with(value: Value) -> Response:
    """``value`` as a JSON answer that nobody on the way keeps."""
    return Response(value.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})


def secret_of(request: Request) -> str:
    """The session's secret that ``request`` shows. Raises as ``Sessions.actor``."""
    given = request.headers.get("authorization")
    if given is None and COOKIE in request.cookies:
        if request.method not in _READING and not _sent_by_us(request):
            raise Forbidden("nothing says that a page of this server sent this", "send the header: x-tailorbird-csrf: 1", code="csrf")
        return request.cookies[COOKIE]
    scheme, _, secret = (given or "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated(
            "no session was shown", "log in at POST /api/sessions, then send: authorization: Bearer tbs_...", code="session_missing"
        )
    return secret.strip()


async def _read_opening(request: Request) -> Opening:
    body = await read_body(request, _LARGEST_LOGIN)
    require_type(request, "application/json")
    opening = read_json_value(Opening, read_object(body, '{"login": {...}, "signature": {...}}'))
    for at, param in ((opening.login.at, "login.at"), (opening.signature.at, "signature.at")):
        if at.utcoffset() is None:
            raise InvalidInput(f"{param} has no time zone", "write times as 2026-01-31T12:00:00Z", code="invalid_value", param=param)
    return opening


def _open(parts: Parts, asked: Opening) -> Opened:
    session, secret = open_session(parts, asked.login, asked.signature)
    return Opened(secret=secret, expires_at=session.expires_at, identity=actor_of(parts, secret).identity)


def _keep(response: Response, opened: Opened, *, secure: bool) -> None:
    seconds = int(SESSION_LASTS.total_seconds())
    response.set_cookie(COOKIE, opened.secret, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


def _too_often(wait: float) -> Response:
    seconds = math.ceil(wait)
    response = error_response(Exhausted("too many refused logins from here", f"try again in {seconds} s", code="login_throttled"))
    response.headers["retry-after"] = str(seconds)
    return response


def _sent_by_us(request: Request) -> bool:
    said = request.headers
    if said.get("x-tailorbird-csrf") == "1" or said.get("sec-fetch-site") == "same-origin":
        return True
    return "origin" in said and urlsplit(said["origin"]).netloc == said.get("host")
