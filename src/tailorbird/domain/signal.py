"""What is seen in production: readings that may call for action.

In: numbers from traffic. Out: signals. Must not know: how they are computed (``monitoring/``).
"""

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
    """One reading of one release's traffic. ``bound`` is the limit it is held against, if any."""

    tenant: Name
    release: Digest
    name: str
    value: float
    bound: float | None
    n: int
    severity: Severity
    at: datetime
