"""Database of the ledger, SQLite or PostgreSQL: opened, and migrated to the schema of this version.

Both kinds promise the same, so that a repository is written once:

- A transaction that reads sees one state of the database, never waits for a writer, and cannot change anything.
- Transactions that write come one after another: each holds the one write lock from its first statement to its end. What it has read
  stays true until it commits, so ``highest number + 1`` is free, nothing deadlocks, and nothing has to be tried again.

One writer at a time is no bottleneck here: a transaction is short (no compute inside one), and every state change appends to the one
event log, which would put writers in a row anyhow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import URL, Connection, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ledger.postgresql import PostgresqlDatabase
from tailorbird.ledger.privileges import secure
from tailorbird.ledger.sqlite import SqliteFile
from tailorbird.system.build import build_name

if TYPE_CHECKING:
    from alembic.config import Config


#: How long a transaction of a command or a worker waits for another writer, in seconds; a gateway, whose callers wait, asks for less.
BUSY_SECONDS = 30.0


class Database(Protocol):
    """Safe to share between threads; each transaction has its own connection.

    A transaction that names a ``tenant`` sees that tenant's rows alone, where the database can hold it to that (``privileges.py``).
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

    def pulse(self) -> object | None:
        """Token that changes with every commit, read without a transaction; None where only the database can tell."""
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
    raise InvalidInput(f"a record cannot be kept in {parsed.render_as_string(hide_password=True)}", _FORMS, code="database_url")


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
        raise InvalidInput("the database URL cannot be read", _FORMS, code="database_url") from None


_FORMS = "write it as sqlite:///path/to/file.db (no question mark in the path) or postgresql://user:password@host/database"


#: The revision that ``tables.py`` describes: the last one in ``migrations/versions``.
NEWEST = "0030"

#: The table in which alembic keeps the revision of the schema.
VERSION_TABLE = "alembic_version"

#: The column that it has beside: the build of tailorbird that made this schema. Alembic reads and writes the revision alone.
_MIGRATED_BY = "migrated_by"

#: Where alembic finds the steps.
SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Makes the database where there is none (a file) and runs the migrations that it lacks. Raises Unavailable.

    The write lock is taken first and everything happens in one transaction: of several processes that migrate at once, one does and the
    others find it done; a kill leaves the schema as it was.
    """
    database.make()
    with database.reading() as connection:
        if revision_of(connection) == NEWEST:
            return
    with database.writing() as connection:
        _upgrade(connection)


@contextmanager
def at_revision(connection: Connection, revision: str) -> Iterator[None]:
    """Within the block a database that holds nothing yet has the schema of ``revision``; after it, it and what was put there is migrated to
    the newest. All in the transaction of ``connection``."""
    if revision == NEWEST:
        yield
        return
    from alembic import command

    command.downgrade(alembic_config(connection), revision)
    yield
    _upgrade(connection)


def revisions() -> frozenset[str]:
    """Every revision that this version can migrate from, and the newest."""
    from alembic.script import ScriptDirectory

    return frozenset(script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions())


def revision_of(connection: Connection) -> str | None:
    """The revision of the schema; None where there is none yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def alembic_config(connection: Connection) -> Config:
    """Alembic configuration for this connection, inside its transaction."""
    from alembic.config import Config  # a tenth of a second to import, and needed only when the schema changes

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        if revision_of(connection) in revisions():
            raise
        raise _newer(connection) from error
    _name_build(connection)
    if connection.dialect.name == "postgresql":
        secure(connection)


def _newer(connection: Connection) -> Unavailable:
    """Names both schemas, and both builds as far as they are known."""
    by = _migrated_by(connection)
    made = f"which tailorbird {by} made" if by else "which a newer version of tailorbird made"
    return Unavailable(
        f"the database has schema {revision_of(connection)}, {made}; this is tailorbird {build_name()}, which knows schemas up to {NEWEST}",
        f"install {f'tailorbird {by}' if by else 'that version'} or a later one here; or restore the backup that was made before the "
        "upgrade, into another database",
        code="database_newer",
    )


def _migrated_by(connection: Connection) -> str | None:
    """The build that made the present schema; None where it was one that left no name."""
    if _MIGRATED_BY not in {column["name"] for column in inspect(connection).get_columns(VERSION_TABLE)}:
        return None
    build: str | None = connection.scalar(text(f"SELECT {_MIGRATED_BY} FROM {VERSION_TABLE}"))
    return build


def _name_build(connection: Connection) -> None:
    """Writes which build made the present schema beside its revision: an earlier build that finds it says so."""
    if _MIGRATED_BY not in {column["name"] for column in inspect(connection).get_columns(VERSION_TABLE)}:
        connection.execute(text(f"ALTER TABLE {VERSION_TABLE} ADD COLUMN {_MIGRATED_BY} VARCHAR(100)"))
    connection.execute(text(f"UPDATE {VERSION_TABLE} SET {_MIGRATED_BY} = :build"), {"build": build_name()})
