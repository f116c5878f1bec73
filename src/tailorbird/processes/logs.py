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
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.request_context import TENANT
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import TailorbirdError
from tailorbird.system.request_id import REQUEST_ID_HEADER, request_id
from tailorbird.usecases import Actor

LogFormat = Literal["text", "json"]

#: Whoever logs lines with ``facts`` passes them as ``extra={FACTS: {...}}``.
FACTS = "facts"


#: Whoever logs lines of which strangers can cause any number passes what makes them alike as ``extra={KIND: ...}``.
KIND = "kind"
#: Lines of one kind in one interval that are written; its seconds; kinds that are remembered.
_WRITTEN, _INTERVAL, _KINDS = 10, 10.0, 1000


class LogRateLimit(logging.Filter):
    """Lets a few records of a kind through in each interval, and says with the next one how many there were besides. Warnings and errors
    are of one kind when the same words stand in the code at the same logger, with the same kind of exception."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        #: When the interval began, records written in it, records left out since one was written.
        self._kinds: OrderedDict[Any, tuple[float, int, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what is to be written."""
        kind = getattr(record, KIND, None)
        if kind is None and record.levelno < logging.WARNING:
            return True
        error = type(record.exc_info[1]).__name__ if record.exc_info and record.exc_info[1] else ""
        key = kind or (record.name, record.levelno, str(record.msg).partition("\n")[0][:120], error)
        began, written, left_out = self._kinds.pop(key, (float("-inf"), 0, 0))
        if self._now() - began >= _INTERVAL:
            began, written = self._now(), 0
        writes = written < _WRITTEN
        if writes and left_out:
            setattr(record, FACTS, _facts(record) | {"left_out": left_out})
        self._kinds[key] = (began, written + 1, 0) if writes else (began, written, left_out + 1)
        while len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        return writes


def set_up_logging(process: str, form: LogFormat) -> logging.Logger:
    """Makes this process write its lines to standard error under the name ``process``; returns the logger for its sentences.

    Ours say everything from INFO on; the web server's and other libraries' only warnings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(process) if form == "json" else _Text(process))
    handler.addFilter(LogRateLimit())
    for name, level in (("tailorbird", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    return logging.getLogger(f"tailorbird.{process}")


class _Text(logging.Formatter):
    """``2026-11-24T10:15:00Z gateway: a sentence name=value``."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the traceback of a defect below it."""
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        return f"{_time(record):%Y-%m-%dT%H:%M:%SZ} {self._process}: {level}{record.getMessage()}{facts}{self._trace(record)}"

    def _trace(self, record: logging.LogRecord) -> str:
        return "\n" + trace_of(record.exc_info[1]) if record.exc_info and record.exc_info[1] else ""


class _Json(logging.Formatter):
    """One object a line: ``time``, ``level``, ``process``, ``message``, and the facts."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line; the traceback of a defect is the field ``trace``."""
        told: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "message": record.getMessage(),
        } | _facts(record)
        if record.exc_info and record.exc_info[1]:
            told["trace"] = trace_of(record.exc_info[1])
        return json.dumps(told, ensure_ascii=False)


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


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = getattr(record, FACTS, {})
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


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
