"""Logs of the processes on standard error, as sentences or JSON, with one access line and id per request.

No text of a message, no secret, no name of a model ever enters a record: whoever logs keeps to ids, codes, numbers and patterns, and of a
defect its kind and place are told, not its words.

The id is ours: rows of the record bear it, so a caller may not choose it. A caller's own ``x-request-id``, where it is well-formed, stands
beside it as ``caller_id``. On the engine, whose only caller is the gateway, the caller's id is the id.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.http import TENANT
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import TailorbirdError
from tailorbird.system.request_id import REQUEST_ID_HEADER, request_id
from tailorbird.usecases import Actor

LogFormat = Literal["text", "json"]

#: Whoever logs lines with ``facts`` passes them as ``extra={FACTS: {...}}``.
FACTS = "facts"


def set_up_logging(process: str, form: LogFormat) -> logging.Logger:
    """Makes this process write its lines to standard error under the name ``process``; returns the logger for its sentences.

    Ours say everything from INFO on; the web server's and other libraries' only warnings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(process, form))
    for name, level in (("tailorbird", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    return logging.getLogger(f"tailorbird.{process}")


class _Lines(logging.Formatter):
    """``2026-11-24T10:15:00Z gateway: a sentence name=value`` with the traceback of a defect below it, or one JSON object a line: ``time``,
    ``level``, ``process``, ``message``, the facts, and the traceback as ``trace``."""

    def __init__(self, process: str, form: LogFormat) -> None:
        super().__init__()
        self._process, self._form = process, form

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at, level, message = datetime.fromtimestamp(record.created, UTC), record.levelname.lower(), record.getMessage()
        facts = {name: value for name, value in getattr(record, FACTS, {}).items() if value not in (None, "")}
        trace = trace_of(record.exc_info[1]) if record.exc_info and record.exc_info[1] else ""
        if self._form == "json":
            time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = {"time": time, "level": level, "process": self._process, "message": message} | facts
            return json.dumps(line | ({"trace": trace} if trace else {}), ensure_ascii=False)
        named = "".join(f" {name}={value}" for name, value in facts.items())
        urgency = "" if record.levelno < logging.WARNING else f"{level}: "
        return f"{at:%Y-%m-%dT%H:%M:%SZ} {self._process}: {urgency}{message}{named}" + (f"\n{trace}" if trace else "")


def trace_of(error: BaseException) -> str:
    """Places and types of an exception, cause by cause, without its message: a library's may quote what was sent.

    Errors of our own tree never quote it, so theirs are told.
    """
    lines: list[str] = []
    seen: list[BaseException] = []
    told: BaseException | None = error
    while told is not None and not any(told is one for one in seen):
        seen.append(told)
        words = f": {told}" if isinstance(told, TailorbirdError) else ""
        places = [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in traceback.extract_tb(told.__traceback__)]
        lines.append("\n".join([*places, f"{type(told).__module__}.{type(told).__qualname__}{words}"]))
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
    return "\nwhich led to\n".join(reversed(lines))


_log = logging.getLogger("tailorbird.requests")

_WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,64}")
#: Asked every few seconds by machines, with answers that other lines and numbers tell better.
_PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/status"})


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
    ordered = ("id", "method", "route", "status", "ms", "tenant", "release", "caller_id")
    _log.info("request", extra={FACTS: {name: facts.get(name) for name in ordered}})
