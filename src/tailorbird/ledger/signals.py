"""Readings of production, in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from tailorbird.domain.signal import Signal
from tailorbird.ledger.row_mapping import next_number, own, select_fields, value_of
from tailorbird.ledger.tables import signals


class Signals:
    """Implements ``SignalRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, readings: Sequence[Signal]) -> None:
        """Adds readings in one statement."""
        for reading in readings:
            own(self._tenant, reading.tenant)
        if readings:
            first = self._connection.execute(select(next_number(signals.c.number, signals.c.tenant == self._tenant))).scalar_one()
            rows = [reading.model_dump() | {"number": number} for number, reading in enumerate(readings, first)]
            self._connection.execute(insert(signals), rows)

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        asked = select_fields(signals, Signal).where(signals.c.tenant == self._tenant)
        asked = asked if objective is None else asked.where(signals.c.objective == objective)
        return tuple(value_of(Signal, row) for row in self._connection.execute(asked.order_by(signals.c.number.desc()).limit(limit)))
