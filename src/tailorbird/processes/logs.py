"""What processes say while they run: one line each on standard error, a sentence for people or JSON for collectors.

No text of a message, no secret, no name of a model ever enters a record: whoever logs keeps to ids, codes, numbers and patterns, and of a
defect its kind and place are told, not its words.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from tailorbird.domain.errors import TailorbirdError

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


def set_up(process: str, form: LogFormat) -> logging.Logger:
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
    """Where a defect happened, and of what kind it is, cause by cause. Not its words: those of a library may quote what was sent.

    Errors of our own tree never quote it, so theirs are told.
    """
    lines: list[str] = []
    told: BaseException | None = error
    while told is not None:
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
