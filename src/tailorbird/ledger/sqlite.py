"""SQLite database of the ledger, in one file.

Write-ahead log, so that readers never wait; ``BEGIN IMMEDIATE`` for every write, which takes the write lock; ``synchronous=FULL``, so that
what was acknowledged survives a power loss, too (one fsync a commit), but for transactions that say they need not be durable. A connection
follows its file, wherever it is moved, even when it is deleted; so each is used only as long as the file that it has open is the one that
lies at the path.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from tailorbird.domain.errors import Corrupt, InvalidInput, Unavailable
from tailorbird.ledger.database_errors import HASTY_SECONDS, database_errors
from tailorbird.system.files import private_folder


class SqliteFile:
    """Implements ``Database``.

    The file is opened, never made, by ``reading`` and ``writing``: a mistyped path is an error and not an empty database.
    """

    def __init__(self, url: URL, busy_seconds: float) -> None:
        if url.database in (None, "", ":memory:") or url.host:
            raise InvalidInput(
                f"a record cannot be kept in {url.render_as_string(hide_password=True)}",
                "name a file by its path: sqlite:///path/to/file.db",
            )
        self.file = Path(str(url.database)).absolute()
        self._log = self.file.with_name(f"{self.file.name}-wal")
        engine = create_engine(
            _opening(self.file),
            connect_args={"timeout": busy_seconds},
            pool_size=8,
            max_overflow=56,
            pool_timeout=busy_seconds,
            hide_parameters=True,
        )
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "checkout", self._still_there)
        event.listen(engine, "begin", _begin)
        self._reader = engine.execution_options(busy=busy_seconds)
        self._writer: Engine = self._reader.execution_options(write=True)
        self._hasty: Engine = self._writer.execution_options(durable=False, busy=min(HASTY_SECONDS, busy_seconds))

    has_roles = False

    def make(self) -> None:
        """Makes an empty file, for its owner alone, where there is none. Raises Unavailable."""
        if self.file.exists():
            return
        try:
            private_folder(self.file.parent)
            self.file.touch(mode=0o600)
        except OSError as error:
            raise Unavailable(
                f"the database {self.file} cannot be made: {error.strerror}",
                "choose a folder that you may write",
                code="database_unreachable",
            ) from error

    @contextmanager
    def reading(self, tenant: str | None = None) -> Iterator[Connection]:  # noqa: ARG002 - a file holds nobody to their rows
        """A transaction that sees one state of the database and cannot change it. Raises Unavailable, Corrupt."""
        with database_errors(str(self.file)), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, tenant: str | None = None, *, durable: bool = True) -> Iterator[Connection]:  # noqa: ARG002 - as above
        """A transaction that holds the write lock from its start; leaving the block commits. Raises Unavailable, Conflict, Corrupt."""
        with database_errors(str(self.file)), (self._writer if durable else self._hasty).begin() as connection:
            yield connection

    def flush(self, *, scrub: bool = False) -> None:
        """Makes durable what was committed so far, and brings a long log into the file. No writer waits for it. Raises Unavailable.

        With ``scrub`` the log is brought into the file and emptied, whatever its length. Writers wait meanwhile, for half a second at a
        time at most; a reader that stays for longer than all attempts keeps it from being emptied, and the next one does it.
        """
        try:
            handle = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return  # nothing was written since the log was last brought into the file
        try:
            os.fsync(handle)
            length = os.fstat(handle).st_size
        except OSError as error:
            raise Unavailable(
                f"{self._log.name} could not be flushed to the disk", "look at the disk", code="database_unreachable"
            ) from error
        finally:
            os.close(handle)
        if scrub or length > _LONG_LOG:
            with database_errors(str(self.file)), self._reader.connect() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                _empty_log(driver) if scrub else driver.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """Findings of SQLite's own check of its pages, at most ``_FINDINGS``; with ``thorough`` of its indexes, too. Raises Unavailable.

        What a page holds is no damage to it: the log and its anchors answer for that.
        """
        check = f"PRAGMA {'integrity_check' if thorough else 'quick_check'}({_FINDINGS})"
        try:
            with self.reading() as connection:
                found = [str(row[0]) for row in connection.exec_driver_sql(check)]
        except Corrupt as error:
            return (error.message,)
        return tuple(" ".join(line.split()) for line in found if line != "ok")

    def close(self) -> None:
        """Closes the connections that no transaction uses."""
        self._reader.dispose()

    def _opened(self, connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info[_FILE] = _identity(self.file)
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # What is deleted because a person asked for it is overwritten, not only unlinked.
        connection.execute("PRAGMA secure_delete = ON")

    def _still_there(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        """Has the pool open another connection when the file was moved away or replaced: what is written into the old one is lost."""
        if record.info[_FILE] != _identity(self.file):
            raise DisconnectionError


#: Bytes of the write-ahead log from which ``flush`` brings it into the file.
_LONG_LOG = 16 * 2**20
#: What SQLite waits for, by whether a transaction is durable.
SYNCHRONOUS = {True: "FULL", False: "NORMAL"}
#: Milliseconds for which the log is tried to be emptied at a time, and pause between two attempts; and how many there are.
_SCRUB_MS, _SCRUBS = 500, 8
#: Damages that a check names.
_FINDINGS = 20
#: Pages of the log after which a durable transaction brings it into the file: SQLite's own number.
_LOG_PAGES = 1000
#: Where a connection remembers which file it has open, and for what kind of transaction it is set.
_FILE, _MODE = "file", "mode"


def _empty_log(connection: sqlite3.Connection) -> None:
    """Brings the log into the file and empties it. SQLite holds the write lock while it waits for readers: a dump reads for minutes."""
    (usual,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_SCRUB_MS}")
    try:
        for attempt in range(_SCRUBS):
            if attempt:
                time.sleep(_SCRUB_MS / 1000)  # whoever waited for the write lock comes first
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opening(file: Path) -> URL:
    """``mode=rw`` opens the file and does not make it."""
    return URL.create("sqlite", database=file.as_uri(), query={"mode": "rw", "uri": "true"})


def _begin(connection: Connection) -> None:
    """Sets the connection for what its transaction is to be, where its last one was another, and begins it."""
    options = connection.get_execution_options()
    write, durable = options.get("write", False), options.get("durable", True)
    if connection.info.get(_MODE) != (write, durable):
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * options['busy']:.0f}")
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        connection.exec_driver_sql(f"PRAGMA synchronous = {SYNCHRONOUS[durable]}")
        # Who does not wait for the disk does not bring the log into the file either: ``flush`` does.
        connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES if durable else 0}")
        connection.info[_MODE] = (write, durable)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
