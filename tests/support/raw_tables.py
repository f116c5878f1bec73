"""The tables of a workspace's SQLite file, read and written by somebody who goes around the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tailorbird.ledger.tables import metadata

#: By table and primary key, columns as SQLite holds them.
Tables = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


@contextmanager
def raw(folder: Path) -> Iterator[sqlite3.Connection]:
    """A transaction of its own; foreign keys do not hold in it."""
    with closing(sqlite3.connect(folder / "tailorbird.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


def read_tables(folder: Path) -> Tables:
    """All tables of the schema."""
    with raw(folder) as connection:
        return {table.name: _rows(connection, table.name, [c.name for c in table.primary_key]) for table in metadata.sorted_tables}


def _rows(connection: sqlite3.Connection, table: str, key: list[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
    return {tuple(row[name] for name in key): row for row in rows}


def write_tables(folder: Path, tables: Tables) -> None:
    """Puts ``tables`` in place of those with the same names."""
    with raw(folder) as connection:
        for name, rows in tables.items():
            connection.execute(f'DELETE FROM "{name}"')
            for row in rows.values():
                columns, places = ", ".join(f'"{column}"' for column in row), ", ".join("?" * len(row))
                connection.execute(f'INSERT INTO "{name}" ({columns}) VALUES ({places})', list(row.values()))
