"""Database of the ledger, SQLite or PostgreSQL: opened, and given the tables of this version.

Both kinds promise the same, so that a repository is written once:

- A transaction that reads sees one state of the database, never waits for a writer, and cannot change anything.
- Transactions that write come one after another: each holds the one write lock from its first statement to its end. What it has read
  stays true until it commits, so ``highest number + 1`` is free, nothing deadlocks, and nothing has to be tried again.

One writer at a time is no bottleneck here: a transaction is short (no compute inside one), and every state change appends to the one
event log, which would put writers in a row anyhow.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import URL, Connection, Index, insert, inspect, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.schema import ColumnCollectionConstraint

from tailorbird.crypto.anchored_rows import EMPTY_STATE
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ledger.postgresql import PostgresqlDatabase, secure
from tailorbird.ledger.sqlite import SqliteFile
from tailorbird.ledger.tables import alias_moves, log_frontier, metadata
from tailorbird.system.process import build_name

#: How long a transaction of a command or a worker waits for another writer, in seconds; a gateway, whose callers wait, asks for less.
BUSY_SECONDS = 30.0


class Database(Protocol):
    """Safe to share between threads; each transaction has its own connection.

    A transaction that names a ``tenant`` sees that tenant's rows alone, where the database can hold it to that (``postgresql.py``).
    """

    @property
    def has_roles(self) -> bool:
        """True where the server knows roles, and holds them to privileges and policies."""
        ...

    def make(self) -> None:
        """Makes an empty database where there is none and this kind can be made. Raises Unavailable."""
        ...

    def reading(self, tenant: str | None = None) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database and cannot change it. Raises Unavailable, Corrupt."""
        ...

    def writing(self, tenant: str | None = None, *, durable: bool = True) -> AbstractContextManager[Connection]:
        """A transaction that holds the write lock; leaving the block commits. Raises Unavailable, Conflict, Corrupt, InvalidInput.

        What is not ``durable`` is committed once it is with the system that keeps the disk: it survives the end of any process, not the
        end of the machine, until ``flush`` or the next durable transaction. It waits ``HASTY_SECONDS`` for another writer at most: who
        writes so tries again.
        """
        ...

    def flush(self, *, scrub: bool = False) -> None:
        """Makes durable what was committed so far; with ``scrub``, as ``Ledger.flush``. Raises Unavailable."""
        ...

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """Damages to the structure of the file, as ``Ledger.damages``. Raises Unavailable."""
        ...

    def close(self) -> None:
        """Closes the connections that no transaction uses."""
        ...


def open_database(url: str, busy_seconds: float | None = None) -> Database:
    """The database at ``url``, where a transaction waits so long for another writer (``BUSY_SECONDS``). Connects to nothing yet.

    Raises InvalidInput, and Unavailable when its driver is not installed.
    """
    parsed, seconds = _parsed(url), BUSY_SECONDS if busy_seconds is None else busy_seconds
    if parsed.drivername in ("sqlite", "sqlite+pysqlite") and "?" not in url:
        return SqliteFile(parsed, seconds)
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return PostgresqlDatabase(parsed, seconds)
    raise InvalidInput(f"a record cannot be kept in {parsed.render_as_string(hide_password=True)}", _FORMS)


def _parsed(url: str) -> URL:
    """Several hosts may stand before the database, as libpq takes them. What cannot be read is not repeated: a password may stand anywhere
    in it."""
    several = re.fullmatch(r"(postgresql(?:\+psycopg)?://(?:[^/?#@]*@)?)([^/?#@]*,[^/?#@]*)(/[^?#]*)\??(.*)", url)
    if several:
        hosts = [host.partition(":") for host in several[2].split(",")]
        named = "".join(f"&host={host}:{port or 5432}" for host, _, port in hosts)
        url = f"{several[1]}{several[3]}?{several[4]}{named}".replace("?&", "?")
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInput("the database URL cannot be read", _FORMS) from None


_FORMS = "write it as sqlite:///path/to/file.db (no question mark in the path) or postgresql://user:password@host/database"


def _schema() -> str:
    """Digest of the names, types and keys of all tables, in hex: who changes one need not name the new schema."""
    described = []
    for table in metadata.sorted_tables:
        columns = [(column.name, type(column.type).__name__, column.nullable) for column in table.columns]
        rules = [rule for rule in (*table.constraints, *table.indexes) if isinstance(rule, ColumnCollectionConstraint | Index)]
        described.append((table.name, columns, sorted((type(rule).__name__, [c.name for c in rule.columns]) for rule in rules)))
    return hashlib.sha256(repr(described).encode()).hexdigest()[:12]


#: The schema that ``tables.py`` describes; a database of another one is refused.
SCHEMA = _schema()

#: The table, of one row, that says which schema a database has.
SCHEMA_TABLE = "tailorbird_schema"


def migrate(database: Database) -> None:
    """Makes the database where there is none (a file), and its tables. Raises Unavailable for a database of another schema.

    The write lock is taken first and everything happens in one transaction: of several processes that do it at once, one does and the
    others find it done; a kill leaves nothing.
    """
    database.make()
    with database.reading() as connection:
        if _is_made(connection):
            return
    with database.writing() as connection:
        if not _is_made(connection):
            _make(connection)


def schema_of(connection: Connection) -> str | None:
    """The schema that the database has; None where it has no tables of ours, and empty for one that does not say."""
    found = inspect(connection)
    if found.has_table(SCHEMA_TABLE):
        return str(connection.scalar(text(f"SELECT version FROM {SCHEMA_TABLE}")) or "")
    return "" if found.has_table(log_frontier.name) else None


def _is_made(connection: Connection) -> bool:
    found = schema_of(connection)
    if found not in (None, SCHEMA):
        raise Unavailable(
            f"the database has the schema {found or 'of an earlier version'}; this is tailorbird {build_name()}, which has schema {SCHEMA}",
            "use the version of tailorbird that made it, or name a new database",
            code="database_schema",
        )
    return found is not None


def _make(connection: Connection) -> None:
    """The tables, with an empty log and no moves of aliases."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(log_frontier), {"id": 1, "size": 0, "edge": [], "state": EMPTY_STATE, "seal": ""})
    connection.execute(insert(alias_moves), {"id": 1, "count": 0})
    connection.execute(text(f"CREATE TABLE {SCHEMA_TABLE} (version VARCHAR(20) PRIMARY KEY)"))
    connection.execute(text(f"INSERT INTO {SCHEMA_TABLE} VALUES (:version)"), {"version": SCHEMA})
    if connection.dialect.name == "postgresql":
        secure(connection)
