"""Mapping between domain values and database rows, and the column types that give back exactly what was stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, DateTime, Dialect, Executable, Row, ScalarSelect, Select, Table, Text, and_, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.errors import Corrupt, Forbidden, InvalidInput
from tailorbird.domain.value import Value


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond. Stored in UTC and read as UTC; a time without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone to UTC; SQLite, which has no zones, gets it without."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput("a time without a zone cannot be recorded", "give the time in UTC", code="time_without_zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As it was stored. Raises Corrupt for what is no moment, at which SQLite's own reading ends with an error of Python's."""
        read = super().result_processor(dialect, coltype)

        def checked(value: Any) -> Any:
            try:
                return read(value) if read else value
            except (TypeError, ValueError):
                raise _unreadable("moment") from None

        return checked

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ReadableTime(UtcTime):
    """As ``UtcTime``; None for what is no moment."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """As it was stored, or None."""
        read = super().result_processor(dialect, coltype)

        def readable(value: Any) -> Any:
            try:
                return read(value)
            except Corrupt:
                return None

        return readable


class CanonicalJson(TypeDecorator[Any]):
    """Lists and mappings of JSON types, as canonical JSON text; what is read back gives the same digest."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        """To text."""
        return None if value is None else canonical_json(value).decode()

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        """From text. Raises Corrupt."""
        try:
            return None if value is None else json.loads(value)
        except ValueError:
            raise _unreadable("list or mapping") from None


def _unreadable(what: str) -> Corrupt:
    return Corrupt(
        f"a stored {what} cannot be read: it was changed outside tailorbird",
        "restore the database from a backup, then run: tailorbird audit verify",
        code="record_corrupt",
    )


V = TypeVar("V", bound=Value)

#: Names in one statement at most.
_AT_ONCE = 500

#: ``INSERT … ON CONFLICT DO NOTHING`` is spelled alike in both, but is no part of the SQL standard.
_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def select_fields(table: Table, kind: type[Value]) -> Select[Any]:
    """Selects the columns that hold the fields of ``kind``."""
    return select(*(table.c[name] for name in kind.model_fields if name in table.c))


def value_of(kind: type[V], row: Row[Any]) -> V:
    """The value that a row holds. Raises Corrupt when the row is none."""
    return value_from(kind, dict(row._mapping))


def value_from(kind: type[V], fields: dict[str, Any]) -> V:
    """The value that stored fields make. Raises Corrupt when they make none."""
    try:
        return kind.model_validate(fields)
    except ValidationError:
        raise unreadable(kind) from None


def value_from_text(kind: type[V], text: str) -> V:
    """The value that canonical JSON text holds. Raises Corrupt when the text is none."""
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        raise unreadable(kind) from None


def text_of(value: Value) -> str:
    """A value's canonical JSON."""
    return canonical_json(value).decode()


def unreadable(kind: type[Value]) -> Corrupt:
    """The error for a row that no longer is what it was written as."""
    return Corrupt(
        f"a stored {kind.__name__} cannot be read: it was changed outside tailorbird, or written by a newer version",
        "check the log with: tailorbird audit verify; use the version that wrote it, or restore a backup",
        code="record_corrupt",
    )


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
