"""A clock that stands still until it is told.

In: a first time. Out: that time, or a later one. Must not know: the machine's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FixedClock:
    """Tells the time it was set to."""

    def __init__(self, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        """The time it was set to, in UTC."""
        return self._at

    def advance(self, by: timedelta) -> None:
        """Moves the time on (or back)."""
        self._at += by
