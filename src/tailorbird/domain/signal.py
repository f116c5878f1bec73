"""Monitoring signals: readings of production traffic and data, with severity."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from tailorbird.domain.value import Digest, Name, Value


class Severity(StrEnum):
    """How urgently a person should look."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


class Signal(Value):
    """One reading of one release's traffic, or of one objective's data (then ``release`` is None).

    ``name`` reads ``family.reading`` (``drift.text``, ``service.latency_p95_ms``, ``data.stale_days``); ``bound`` is the limit it is held
    against, ``n`` the requests or rows it rests on, ``text`` the sentence a person reads.
    """

    tenant: Name
    objective: Name
    release: Digest | None
    name: str
    value: float
    bound: float | None
    p_value: float | None = None
    n: int
    severity: Severity
    text: str
    at: datetime
