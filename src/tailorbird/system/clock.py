"""Clock of the machine."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """Implements ``Clock`` with the machine's own time."""

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.now(UTC)
