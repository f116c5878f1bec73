"""Base of all repositories: one transaction, one tenant, rows as values, and what has changed of anchored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, Executable, Row, ScalarSelect, Select, Table, and_, func, select
from sqlalchemy.dialects import postgresql, sqlite

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.errors import Forbidden
from tailorbird.domain.value import Value
from tailorbird.ledger.tables import unreadable
from tailorbird.ports.clock import Clock
from tailorbird.system.clock import SystemClock

V = TypeVar("V", bound=Value)

#: Names in one statement at most.
_AT_ONCE = 500
#: Rows that are held at once where many are read as a stream.
ROWS_AT_ONCE = 2000

#: ``INSERT … ON CONFLICT DO NOTHING`` is spelled alike in both, but is no part of the SQL standard.
_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Repository:
    """Rows of one ``tenant`` inside one transaction; one that stands above tenants has none."""

    def __init__(self, connection: Connection, tenant: str = "", changes: RowChanges | None = None, clock: Clock | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()
        self._clock = clock or SystemClock()

    def _here(self, table: Table, *which: ColumnElement[bool]) -> ColumnElement[bool]:
        """True for the tenant's rows of ``table`` for which all of ``which`` holds."""
        return and_(table.c.tenant == self._tenant, *which)

    def _rows(self, table: Table, kind: type[Value], *which: ColumnElement[bool]) -> Select[Any]:
        """Selects the fields of ``kind`` from the tenant's rows for which ``which`` holds."""
        return select_fields(table, kind).where(self._here(table, *which))

    def _many(self, kind: type[V], query: Select[Any]) -> tuple[V, ...]:
        """The values that the rows hold. Raises Corrupt."""
        return tuple(value_from(kind, row) for row in self._connection.execute(query))

    def _one(self, kind: type[V], query: Select[Any]) -> V | None:
        """The value that the only row holds; None where there is none. Raises Corrupt."""
        row = self._connection.execute(query).one_or_none()
        return value_from(kind, row) if row else None

    def _count(self, table: Table, *which: ColumnElement[bool]) -> int:
        """How many rows the tenant has for which ``which`` holds."""
        return int(self._connection.execute(select(func.count()).select_from(table).where(self._here(table, *which))).scalar_one())

    def _texts(self, column: ColumnElement[str], *which: ColumnElement[bool]) -> list[str]:
        """The distinct values of a column of the rows for which ``which`` holds."""
        return list(self._connection.scalars(select(column).where(*which).distinct()))

    def _add(self, table: Table, value: Value, **more: Any) -> bool:
        """Inserts ``value`` as a row of the tenant, unless one with one of its keys is there; True when it was inserted."""
        self._own(value)
        return insert_new(self._connection, table, row_of(table, value, tenant=self._tenant, **more))

    def _run(self, statement: Executable) -> int:
        """Carries out a change; how many rows it reached."""
        return int(self._connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount)

    def _run_on(self, change: Callable[[list[str]], Executable], names: Iterable[str]) -> int:
        """Carries out ``change`` for ``names``, so many at once as a statement may name; how many rows it reached."""
        return sum(self._run(change(some)) for some in portions(names))

    def _next(self, table: Table, *same: ColumnElement[bool]) -> ScalarSelect[int]:
        """The number of the next row that the tenant adds to those that match ``same``."""
        return next_number(table.c.number, self._here(table, *same))

    def _changing(self, read: Callable[[], Iterable[Value | RowGroup]]) -> AbstractContextManager[None]:
        """Notes what the rows or groups that ``read`` gives hold before the block and after it."""
        return self._changes.changing(read)

    def _own(self, *values: Value) -> None:
        for value in values:
            own(self._tenant, getattr(value, "tenant", self._tenant))


def select_fields(table: Table, kind: type[Value]) -> Select[Any]:
    """Selects the columns that hold the fields of ``kind``."""
    return select(*(table.c[name] for name in kind.model_fields if name in table.c))


def row_of(table: Table, value: Value, **more: Any) -> dict[str, Any]:
    """The columns of ``table`` that hold fields of ``value``, and ``more``."""
    return {name: field for name, field in value.model_dump().items() if name in table.c} | more


def value_from(kind: type[V], fields: Row[Any] | dict[str, Any]) -> V:
    """The value that stored fields make. Raises Corrupt when they make none."""
    try:
        return kind.model_validate(fields if isinstance(fields, dict) else dict(fields._mapping))
    except ValidationError:
        raise unreadable(kind.__name__) from None


def value_from_text(kind: type[V], text: str) -> V:
    """The value that canonical JSON text holds. Raises Corrupt when the text is none."""
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        raise unreadable(kind.__name__) from None


def text_of(value: Value) -> str:
    """A value's canonical JSON."""
    return canonical_json(value).decode()


def insert_new(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Inserts ``row`` unless a row with one of its keys is there; True when it was inserted."""
    statement = _INSERT[connection.dialect.name](table).values(row).on_conflict_do_nothing()
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1


def insert_all_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Inserts those of ``rows`` whose keys are not there yet, in one statement."""
    if rows:
        connection.execute(_INSERT[connection.dialect.name](table).on_conflict_do_nothing(), rows)


def upsert(
    connection: Connection, table: Table, rows: list[dict[str, Any]], *, summed: tuple[str, ...] = (), replaced: tuple[str, ...] = ()
) -> None:
    """Inserts ``rows``; where one with its key is there, adds the ``summed`` columns to it and replaces the ``replaced`` ones."""
    if rows:
        connection.execute(_upserting(connection.dialect.name, table, summed, replaced), rows)


@cache
def _upserting(dialect: str, table: Table, summed: tuple[str, ...], replaced: tuple[str, ...]) -> Executable:
    """The statement, made once: making it takes longer than running it."""
    statement = _INSERT[dialect](table)
    changes = {name: table.c[name] + statement.excluded[name] for name in summed} | {name: statement.excluded[name] for name in replaced}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes)


def portions(names: Iterable[str]) -> Iterator[list[str]]:
    """``names`` without repetition, sorted, as many at once as one statement may name."""
    ordered = sorted(set(names))
    yield from (ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE))


def next_number(column: ColumnElement[int], *same: ColumnElement[bool]) -> ScalarSelect[int]:
    """One more than the highest ``column`` among the rows that match ``same``; 1 for the first."""
    return select(func.coalesce(func.max(column), 0) + 1).where(*same).scalar_subquery()


def begins(column: ColumnElement[str], start: str) -> ColumnElement[bool]:
    """True where ``column``, which ends in lower-case hexadecimal digits, begins with ``start``: a range, so that an index serves."""
    return and_(column >= start, column < f"{start}g")


def own(tenant: str, value_tenant: str) -> None:
    """Refuses to write a value of another tenant. Raises Forbidden."""
    if value_tenant != tenant:
        raise Forbidden(
            f"the record of tenant {tenant} takes nothing that belongs to tenant {value_tenant}",
            "open the work of the tenant that the value belongs to",
            code="other_tenant",
        )
