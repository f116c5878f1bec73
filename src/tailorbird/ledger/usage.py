"""What requests have used up, a row for each gateway, period and window; and the gateways that count.

In: usage, signs of life. Out: sums. Must not know: limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select

from tailorbird.domain.quota import Amounts, Period, Usage
from tailorbird.ledger.rows import upsert
from tailorbird.ledger.tables import gateways, usage

_COUNTS = Amounts._fields


class Usages:
    """Implements ``UsageRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, counted: Sequence[Usage]) -> None:
        """Adds to what the gateways counted in their windows."""
        upsert(self._connection, usage, [one.model_dump() | {"tenant": self._tenant} for one in counted], summed=_COUNTS)

    def used(self, period: Period, start: datetime) -> Amounts:
        """What all gateways counted in the window that began at ``start``."""
        window = (usage.c.tenant == self._tenant, usage.c.period == period, usage.c.start == start)
        return _amounts(self._connection.execute(_sums().where(*window)).one())


class AllUsage:
    """Implements ``UsageBook``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def by_others(self, gateway: str, starts: Mapping[Period, datetime]) -> dict[tuple[str, Period], Amounts]:
        """What other gateways than ``gateway`` counted in those windows, by tenant and period."""
        windows: list[ColumnElement[bool]] = [and_(usage.c.period == period, usage.c.start == start) for period, start in starts.items()]
        others = _sums(usage.c.tenant, usage.c.period).where(usage.c.gateway != gateway, or_(*windows))
        rows = self._connection.execute(others.group_by(usage.c.tenant, usage.c.period))
        return {(row.tenant, row.period): _amounts(row) for row in rows}

    def prune(self, before: datetime) -> int:
        """Forgets minutes that began before; how many rows there were."""
        return self._connection.execute(delete(usage).where(usage.c.period == "minute", usage.c.start < before)).rowcount


class Gateways:
    """Implements ``GatewayDirectory``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beat(self, gateway: str, moves: int, at: datetime) -> None:
        """Says that ``gateway`` serves, with every alias as of the move number ``moves``."""
        upsert(self._connection, gateways, [{"id": gateway, "moves": moves, "at": at}], replaced=("moves", "at"))

    def serving(self, since: datetime) -> dict[str, int]:
        """Gateways that said so at or after ``since``, and the move each had reached."""
        return {row.id: row.moves for row in self._connection.execute(select(gateways).where(gateways.c.at >= since))}

    def leave(self, gateway: str) -> None:
        """Says that ``gateway`` serves no more."""
        self._connection.execute(delete(gateways).where(gateways.c.id == gateway))


def _sums(*groups: ColumnElement[Any]) -> Select[Any]:
    return select(*groups, *(func.coalesce(func.sum(usage.c[name]), 0).label(name) for name in _COUNTS))


def _amounts(row: Any) -> Amounts:
    """PostgreSQL sums big integers to decimals."""
    return Amounts(int(row.requests), int(row.input_tokens), int(row.output_tokens), float(row.money))
