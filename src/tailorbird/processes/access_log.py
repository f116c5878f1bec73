"""One line of log for every request, and the request's id for whatever is done for it.

The id is ours: rows of the record bear it, so a caller may not choose it. A caller's own ``x-request-id``, where it is well-formed, stands
beside it as ``caller_id``. On the engine, whose only caller is the gateway, the caller's id is the id.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.request_context import TENANT
from tailorbird.crypto.canonical_json import short
from tailorbird.processes.logs import FACTS, KIND
from tailorbird.system.request_id import REQUEST_ID_HEADER, request_id
from tailorbird.usecases import Actor

_log = logging.getLogger("tailorbird.requests")

_WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}")
#: Asked every few seconds by machines, with answers that other lines and numbers tell better.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/loaded", "/state"})


class AccessLog:
    """Middleware; inside of ``api.Observed``, where there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, facts = time.perf_counter(), _identify(scope)
        facts["status"] = 500
        token = request_id.set(facts["id"])

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
                release = Headers(raw=message["headers"]).get("x-tailorbird-release")
                facts["release"] = short(release) if release else None
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            request_id.reset(token)
            facts["ms"] = round(1000 * (time.perf_counter() - started), 1)
            _tell(facts | {"route": getattr(scope.get("route"), "path", "unmatched"), "tenant": _tenant(scope)})


def _identify(scope: Scope) -> dict[str, Any]:
    call, given = scope.get("tailorbird.call"), Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    theirs = given if _WELL_FORMED.fullmatch(given) else ""
    return {"id": call.id if call else theirs, "method": scope["method"], "caller_id": theirs if call else None}


def _tenant(scope: Scope) -> str | None:
    """The tenant of whoever was recognised: a program by its key, a person by a session."""
    known: str | None = scope.get(TENANT)
    actor = scope.get("state", {}).get("actor")  # the console's pages keep theirs there
    return known or (actor.tenant if isinstance(actor, Actor) else None)


def _tell(facts: dict[str, Any]) -> None:
    if facts["route"] in _PROBES and facts["status"] in (200, 503):
        return
    # Strangers can ask as often as they like: what is refused to them is written a few times, and counted.
    stranger = facts["tenant"] is None and facts["status"] >= 400
    kind: dict[str, Any] = {KIND: ("refused", facts["route"], facts["status"])} if stranger else {}
    ordered = ("id", "method", "route", "status", "ms", "tenant", "release", "caller_id")
    _log.info("request", extra=kind | {FACTS: {name: facts.get(name) for name in ordered}})
