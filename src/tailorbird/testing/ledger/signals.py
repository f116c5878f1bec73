"""Readings of production, by number."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.signal import Signal
from tailorbird.testing.ledger.tables import Repository, Table, next_number, stored

SIGNALS: Table[int, Signal] = Table("signals")


class MemorySignals(Repository):
    """Implements ``SignalRepository``."""

    def add(self, signals: Sequence[Signal]) -> None:
        """Adds readings, all or none."""
        for reading in signals:
            self._own(reading.tenant)
        if signals:
            rows = self._change(SIGNALS)
            for reading in map(stored, signals):
                rows[next_number(rows)] = reading

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        asked = [one for one in self._rows(SIGNALS).values() if objective is None or one.objective == objective]
        return tuple(asked[::-1][:limit])
