"""The time of day, so that tests can set it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The current time, timezone-aware, in UTC."""
        ...


class TimeFloor(Protocol):
    """System repository: the latest time that any process has seen. A clock that was set back behind it is not believed."""

    def at(self) -> datetime | None:
        """The floor; None before it was first raised."""
        ...

    def raise_to(self, now: datetime) -> None:
        """Raises the floor towards ``now``, by a day at most."""
        ...
