"""Request ids, and the context variable that carries one, for the logs of every process that serves the request."""

from __future__ import annotations

import secrets
import time
from contextvars import ContextVar

#: Id of the request that is being worked on; empty outside requests.
request_id: ContextVar[str] = ContextVar("tailorbird.request_id", default="")

#: The header that carries it from the gateway to the engine.
REQUEST_ID_HEADER = "x-request-id"

#: Bits of an id that nobody can foresee.
_DRAWN = 74


def new_request_id() -> str:
    """``req_`` and the 32 hexadecimal digits of a UUID of version 7 (RFC 9562): milliseconds since 1970 in 48 bits, then what was drawn.

    Ids of one time are neighbours in every index of the record, so what reports join by id lies on few pages, however many there are.
    """
    drawn = secrets.randbits(_DRAWN)
    high, low = drawn >> 62, drawn & (1 << 62) - 1
    return f"req_{time.time_ns() // 1_000_000:012x}7{high:03x}{0b10 << 62 | low:016x}"
