"""Aliases with every version they had, and the rows that requests leave.

In: aliases, request rows. Out: the same, and sums over them. Must not know: engines, HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Subquery, case, func, insert, select, update

from tailorbird.domain.deployment import Alias, RequestRow, Traffic
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import plain_json
from tailorbird.ledger.rows import insert_new, own, select_fields, value_of
from tailorbird.ledger.tables import alias_moves, aliases, requests


class Aliases:
    """Implements ``AliasRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def get(self, name: str) -> Alias:
        """The alias as it is now. Raises NotFound."""
        row = self._connection.execute(self._versions(name).order_by(aliases.c.version.desc()).limit(1)).one_or_none()
        if row is None:
            raise NotFound(f"no alias {self._tenant}/{name}", "list them with: tailorbird release list", code="alias_missing")
        return value_of(Alias, row)

    def all(self) -> tuple[Alias, ...]:
        """All aliases as they are now, by name."""
        newest = select(aliases.c.name, func.max(aliases.c.version).label("version")).where(aliases.c.tenant == self._tenant)
        current = newest.group_by(aliases.c.name).subquery()
        matches = (aliases.c.name == current.c.name) & (aliases.c.version == current.c.version)
        rows = select_fields(aliases, Alias).join(current, matches).where(aliases.c.tenant == self._tenant).order_by(aliases.c.name)
        return tuple(value_of(Alias, row) for row in self._connection.execute(rows))

    def put(self, alias: Alias) -> None:
        """Writes the next version. Raises Conflict when ``alias.version`` is not one above the stored one (1 for a new alias)."""
        own(self._tenant, alias.tenant)
        row = plain_json(alias) | {"moved_at": alias.moved_at}
        if alias.version != self._version(alias.name) + 1 or not insert_new(self._connection, aliases, row):
            raise Conflict(
                f"the alias {alias.path} was moved meanwhile: version {alias.version} does not follow {self._version(alias.name)}",
                "look where it points now, then move it again",
                code="alias_version",
            )
        self._connection.execute(update(alias_moves).values(count=alias_moves.c.count + 1))

    def history(self, name: str) -> tuple[Alias, ...]:
        """Every version the alias had, oldest first."""
        return tuple(value_of(Alias, row) for row in self._connection.execute(self._versions(name).order_by(aliases.c.version)))

    def _versions(self, name: str) -> Select[Any]:
        return select_fields(aliases, Alias).where(aliases.c.tenant == self._tenant, aliases.c.name == name)

    def _version(self, name: str) -> int:
        stored = select(func.coalesce(func.max(aliases.c.version), 0)).where(aliases.c.tenant == self._tenant, aliases.c.name == name)
        return int(self._connection.execute(stored).scalar_one())


class Requests:
    """Implements ``RequestRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, rows: Sequence[RequestRow]) -> None:
        """Adds rows in one statement. Raises Conflict when the id of one is taken."""
        for row in rows:
            own(self._tenant, row.tenant)
        if rows:
            self._connection.execute(insert(requests), [row.model_dump() for row in rows])

    def get(self, request: str) -> RequestRow:
        """The row of a request. Raises NotFound."""
        row = self._connection.execute(self._all().where(requests.c.id == request)).one_or_none()
        if row is None:
            raise NotFound(f"no request {request} in {self._tenant}", "take the id from the response's header", code="request_missing")
        return value_of(RequestRow, row)

    def latest(self, limit: int = 50, before: datetime | None = None, release: Digest | None = None) -> tuple[RequestRow, ...]:
        """The newest rows, newest first; only those older than ``before``, only those that ``release`` answered."""
        asked = self._all() if before is None else self._all().where(requests.c.at < before)
        asked = asked if release is None else asked.where(requests.c.release == release)
        newest = asked.order_by(requests.c.at.desc(), requests.c.id.desc()).limit(limit)
        return tuple(value_of(RequestRow, row) for row in self._connection.execute(newest))

    def traffic(self, start: datetime, stop: datetime) -> tuple[Traffic, ...]:
        """What each release answered under each alias from ``start`` (inclusive) to ``stop`` (exclusive), by alias and release.

        Latencies are exact nearest-rank percentiles over the requests that were not refused: a refusal takes no time, and many of them
        would hide a slow model. They are 0 where everything was refused.
        """
        rows = self._connection.execute(_sums(self._ranked(start, stop)))
        return tuple(sorted((value_of(Traffic, row) for row in rows), key=lambda found: (found.alias, found.release or "")))

    def _ranked(self, start: datetime, stop: datetime) -> Subquery:
        """The rows of a window, each with its ``rank`` by latency among ``ranks`` rows: those of its release and alias, refused or not."""
        alike = (requests.c.release, requests.c.alias, requests.c.outcome == "refused")
        rank = func.row_number().over(partition_by=alike, order_by=requests.c.latency_ms).label("rank")
        ranks = func.count().over(partition_by=alike).label("ranks")
        window = (requests.c.tenant == self._tenant, requests.c.at >= start, requests.c.at < stop)
        return select(*requests.c, rank, ranks).where(*window).subquery()

    def _all(self) -> Select[Any]:
        return select_fields(requests, RequestRow).where(requests.c.tenant == self._tenant)


def _sums(ranked: Subquery) -> Select[Any]:
    """The fields of ``Traffic`` from ranked rows."""
    row = ranked.c
    outcomes = {"ok": "ok", "errors": "error", "refused": "refused", "aborted": "aborted"}
    columns = (
        row.release,
        row.alias,
        func.count().label("requests"),
        *(func.count().filter(row.outcome == outcome).label(name) for name, outcome in outcomes.items()),
        _percentile(ranked, 50).label("latency_p50_ms"),
        _percentile(ranked, 95).label("latency_p95_ms"),
        *(func.sum(row[name]).label(name) for name in ("prompt_tokens", "completion_tokens", "cost")),
        func.min(row.at).label("first"),
        func.max(row.at).label("last"),
    )
    return select(*columns).group_by(row.release, row.alias)


def _percentile(ranked: Subquery, percent: int) -> ColumnElement[float]:
    """Nearest rank: the least latency that at least ``percent`` of a hundred do not exceed."""
    row = ranked.c
    reached = (row.outcome != "refused") & (row.rank * 100 >= row.ranks * percent)
    return func.coalesce(func.min(case((reached, row.latency_ms))), 0.0)
