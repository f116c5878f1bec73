"""Tables as dictionaries, and transactions that copy a table when they first write to it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup
from tailorbird.domain.errors import Conflict, Forbidden, Internal, InvalidInput, Unavailable
from tailorbird.domain.value import Value

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
V = TypeVar("V", bound=Value)

#: Rows by tenant and table; the tenant is empty for what stands above tenants. Never changed once it is committed.
State = Mapping[tuple[str, str], Mapping[Any, Any]]
#: The tenant of the system's own tables.
SYSTEM = ""


@dataclass(frozen=True)
class Table(Generic[K, R]):
    """Rows ``R`` by key ``K``, in the order in which they were added. ``name`` is that of the SQL table."""

    name: str


class Transaction:
    """One state of the record, and what was changed since, which nobody else sees before the commit."""

    def __init__(self, state: State, *, write: bool) -> None:
        #: Rows that were changed and that no event has anchored yet.
        self.unanchored = RowChanges()
        self._state: State | None = state
        self._write = write
        self._changed: dict[tuple[str, str], dict[Any, Any]] = {}

    def rows(self, table: Table[K, R], tenant: str) -> Mapping[K, R]:
        """The rows of a tenant, to be read."""
        place = (tenant, table.name)
        changed = self._changed.get(place)
        return self._before.get(place, {}) if changed is None else changed

    def change(self, table: Table[K, R], tenant: str) -> dict[K, R]:
        """The rows of a tenant, to be changed. Raises Unavailable in a transaction that only reads."""
        if not self._write:
            raise Unavailable(
                "a transaction that was opened to read cannot write", "open the work with write=True", code="database_read_only"
            )
        place = (tenant, table.name)
        if place not in self._changed:
            self._changed[place] = dict(self._before.get(place, {}))
        return self._changed[place]

    def every(self, table: Table[K, R]) -> Iterator[tuple[str, Mapping[K, R]]]:
        """The rows of each tenant that has any in this table, by the tenant's name."""
        tenants = {tenant for tenant, name in self._before.keys() | self._changed.keys() if name == table.name}
        return ((tenant, self.rows(table, tenant)) for tenant in sorted(tenants))

    def tables(self, tenant: str) -> dict[str, Mapping[Any, Any]]:
        """All tables in which a tenant has rows, by name."""
        places = sorted(place for place in self._before.keys() | self._changed.keys() if place[0] == tenant)
        found: dict[str, Mapping[Any, Any]] = {name: self.rows(Table(name), tenant) for _, name in places}
        return {name: rows for name, rows in found.items() if rows}

    def tenants(self) -> tuple[str, ...]:
        """Tenants that have rows of their own, by name."""
        return tuple(sorted({tenant for tenant, _ in self._before.keys() | self._changed.keys()} - {SYSTEM}))

    def commit(self) -> State:
        """The state with the changes; the one there was, where nothing changed."""
        return {**self._before, **self._changed} if self._changed else self._before

    def end(self) -> None:
        """Ends the transaction: its repositories answer nothing more."""
        self._state = None

    @property
    def _before(self) -> State:
        if self._state is None:
            raise Internal("a repository was used after its transaction had ended", "please report this with the log", code="database")
        return self._state


class Repository:
    """What the repositories of one tenant share; ``tenant`` is ``SYSTEM`` for those above tenants."""

    def __init__(self, transaction: Transaction, tenant: str = SYSTEM) -> None:
        self._transaction = transaction
        self._tenant = tenant

    def _rows(self, table: Table[K, R]) -> Mapping[K, R]:
        return self._transaction.rows(table, self._tenant)

    def _change(self, table: Table[K, R]) -> dict[K, R]:
        return self._transaction.change(table, self._tenant)

    def _note(self, before: Value | RowGroup | None, after: Value | RowGroup | None) -> None:
        self._transaction.unanchored.note(before, after)

    def _own(self, tenant: str) -> None:
        """Refuses to write a value of another tenant. Raises Forbidden."""
        if tenant != self._tenant:
            raise Forbidden(
                f"the record of tenant {self._tenant} takes nothing that belongs to tenant {tenant}",
                "open the work of the tenant that the value belongs to",
                code="other_tenant",
            )


def stored(value: V) -> V:
    """``value`` as it comes back: its times in UTC. Raises InvalidInput for a time without a zone."""
    moved = {name: utc(held) for name, held in value if isinstance(held, datetime) and held.tzinfo is not UTC}
    return value.model_copy(update=moved) if moved else value


def utc(at: datetime) -> datetime:
    """The same moment in UTC. Raises InvalidInput for a time without a zone."""
    if at.tzinfo is None:
        raise InvalidInput("a time without a zone cannot be recorded", "give the time in UTC", code="time_without_zone")
    return at.astimezone(UTC)


def next_number(rows: Mapping[int, R]) -> int:
    """One more than the number of the row that was added last; 1 for the first."""
    return next(reversed(rows.keys()), 0) + 1  # type: ignore[call-overload]


def text_of(row: object) -> str:
    """Everything that a key or a row says, as text."""
    if isinstance(row, Value):
        return row.model_dump_json()
    if is_dataclass(row):
        row = tuple(getattr(row, field.name) for field in fields(row))
    if isinstance(row, tuple):
        return " ".join(map(text_of, row))
    if isinstance(row, bytes):
        return row.decode(errors="replace")
    return row.isoformat() if isinstance(row, datetime) else str(row)


def contradiction() -> Conflict:
    """What is written refers to something that is not there, or has the key of something that is."""
    return Conflict("the record already holds something that this contradicts", "read its current state and try again", code="integrity")
