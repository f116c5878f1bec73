"""Aliases with every version they had, and the rows that requests leave.

In: aliases, request rows. Out: the same. Must not know: engines, HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from tailorbird.domain.deployment import Alias, RequestRow
from tailorbird.domain.errors import Conflict, NotFound
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

    def latest(self, limit: int = 50) -> tuple[RequestRow, ...]:
        """The newest ``limit`` rows, newest first."""
        newest = self._all().order_by(requests.c.at.desc(), requests.c.id.desc()).limit(limit)
        return tuple(value_of(RequestRow, row) for row in self._connection.execute(newest))

    def _all(self) -> Select[Any]:
        return select_fields(requests, RequestRow).where(requests.c.tenant == self._tenant)
