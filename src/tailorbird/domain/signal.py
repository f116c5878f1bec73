"""Monitoring signals: readings of production traffic and data, with severity."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from tailorbird.domain.value import Digest, Name, Value


class Severity(StrEnum):
    """How urgently a person should look."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


#: Every reading there is: what is compared, and of what (docs/monitoring.md explains each).
SignalName = Literal[
    "drift.text",
    "drift.length",
    "drift.classes",
    "drift.out_of_scope",
    "service.error_rate",
    "service.refusal_rate",
    "service.fallback_rate",
    "service.load_refused",
    "service.latency_p95_ms",
    "service.cost_per_1k_requests",
    "feedback.accuracy",
    "feedback.score",
    "live_kpi.csat",
    "live_kpi.thumbs",
    "live_kpi.outcome",
    "rollout.rolled_back",
    "rollout.held",
    "rollout.inconclusive",
    "data.missing_sources",
    "data.unreadable",
    "data.missing_columns",
    "data.changed_columns",
    "data.changed_labels",
    "data.stale_days",
    "data.volume_drop",
    "data.quarantine_rate",
    "data.changed_sources",
]


class Signal(Value):
    """One reading of one release's traffic, or of one objective's data (then ``release`` is None).

    ``bound`` is the limit it is held against, ``n`` the requests or rows it rests on, ``text`` the sentence a person reads.
    """

    tenant: Name
    objective: Name
    release: Digest | None
    name: SignalName
    value: float
    bound: float | None
    p_value: float | None = None
    n: int
    severity: Severity
    text: str
    at: datetime
