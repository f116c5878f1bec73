"""The latest time that any process has seen, so that a clock which is set back makes nothing valid that has expired.

In: times. Out: the floor. Must not know: what expires.

Whoever raises the floor to a wrong time in the future would end keys before their time, so one step is at most ``LARGEST_STEP``: a record
that nobody used for a year catches up in a few hundred steps, and a clock that was wrong for minutes does little harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from tailorbird.ledger.rows import insert_new
from tailorbird.ledger.tables import time_floor

LARGEST_STEP = timedelta(days=1)
_ONLY = 1


class TimeFloor:
    """Implements ``ports.clock.TimeFloor``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def at(self) -> datetime | None:
        """The floor; None before it was first raised."""
        return self._connection.scalar(select(time_floor.c.at).where(time_floor.c.id == _ONLY))

    def raise_to(self, now: datetime) -> None:
        """Raises the floor to ``now``, or by the largest step towards it; does nothing when it is there already."""
        known = self.at()
        if known is None:
            insert_new(self._connection, time_floor, {"id": _ONLY, "at": now})
            return
        wanted = min(now, known + LARGEST_STEP)
        self._connection.execute(update(time_floor).where(time_floor.c.id == _ONLY, time_floor.c.at < wanted).values(at=wanted))
