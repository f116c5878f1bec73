"""PostgreSQL database of the ledger.

Reads are ``REPEATABLE READ, READ ONLY``: one state, no waiting. Writes are ``READ COMMITTED`` behind one transaction-level advisory lock,
which makes them come one after another, as SQLite does. The alternatives cost more than they give: ``SERIALIZABLE`` aborts transactions
that the caller would have to run again, and row locks must be taken in one order by every repository, now and later, or they deadlock.
Each transaction names its tenant, to whose rows policies hold everybody but the owner of the tables (``privileges.py``).
A connection that was lost is noticed before its next use and replaced, so a server may go away and come back, or another take its place.

What is not ``durable`` is committed in haste, which gives the write lock back at once, and waited for afterwards, by nobody else: until it
is on the server's disk and, where the server has synchronous standbys, on theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ledger.database_errors import HASTY_SECONDS, database_errors
from tailorbird.ledger.privileges import EVERY_TENANT
from tailorbird.ledger.server_watch import ServerWatch

#: How long to wait for a connection to be made, in seconds.
CONNECT_SECONDS = 10

#: How long to wait for the answer to what is answered at once, a commit among it, in seconds.
ANSWER_SECONDS = 10

#: After this many seconds of silence inside a write transaction the server ends it: a client that froze gives the write lock back.
SILENT_SECONDS = 60

#: The name of the write lock among the advisory locks of the database: "tailor" in ASCII.
WRITE_LOCK = 0x7461696C6F72

#: A server whose machine is gone is missed while its answer is waited for, too: the kernel asks it whether it is there.
_CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,
    "tcp_user_timeout": CONNECT_SECONDS * 1000,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "application_name": "tailorbird",
}

#: Among what is known of a connection: that it was made for who takes it.
_FRESH = "fresh"

#: How questions over many rows are planned. With the usual 4 MB a month's rows are not found by an index: what it finds must fit in, or the
#: whole table is read. Other processes of the server take longer to start than a page takes, and are begun once a table is large.
_PLANNED = (
    "set_config('work_mem', '64MB', true), set_config('hash_mem_multiplier', '4', true),"
    " set_config('max_parallel_workers_per_gather', '0', true)"
)

#: Drivers prepare what they ask often; from its sixth time on PostgreSQL may plan that for any tenant, release and time alike.
_FOR_WHAT_IS_ASKED = "set_config('plan_cache_mode', 'force_custom_plan', true)"
_SCOPE = text(f"SELECT set_config('tailorbird.tenant', :tenant, true), {_PLANNED}, {_FOR_WHAT_IS_ASKED}")
_HASTY = text("SELECT set_config('synchronous_commit', 'off', true)")
#: Writes something, so that its commit waits for all that was committed before.
_CATCH_UP = text("SELECT pg_logical_emit_message(true, 'tailorbird', '')")
_LOCK = text(
    "SELECT set_config('tailorbird.tenant', :tenant, true), set_config('lock_timeout', :busy, true),"
    f" set_config('idle_in_transaction_session_timeout', :silent, true), {_PLANNED},"
    " pg_advisory_xact_lock(:name)"
)


class PostgresqlDatabase:
    """Implements ``Database``. The database itself is made by whoever runs the server (``createdb``)."""

    def __init__(self, url: URL, busy_seconds: float) -> None:
        if not url.database or "@" in (url.host or ""):
            raise InvalidInput(
                "the database URL names no database of a PostgreSQL server",
                "write it as postgresql://user:password@host/database, with @, : and / of a password as %40, %3A and %2F",
                code="database_url",
            )
        self.place = _place_of(url)
        self._watch = ServerWatch(ANSWER_SECONDS, self.place)
        engine = _engine(url.set(drivername="postgresql+psycopg"), busy_seconds)
        _ask_before_use(engine, self._watch)
        self._reader: Engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writer: Engine = engine.execution_options(isolation_level="READ COMMITTED")
        self._busy_seconds = busy_seconds

    has_roles = True

    def make(self) -> None:
        """Does nothing: a user of the database seldom may make one."""

    @contextmanager
    def reading(self, tenant: str | None = None) -> Iterator[Connection]:
        """A transaction that sees one state of the database and cannot change it. Raises Unavailable, Corrupt."""
        with database_errors(self.place), self._reader.begin() as connection:
            with self._watch.over(connection):
                connection.execute(_SCOPE, {"tenant": tenant or EVERY_TENANT})
            yield connection

    @contextmanager
    def writing(self, tenant: str | None = None, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that holds the write lock; leaving the block commits. Raises Unavailable, Conflict, Corrupt, InvalidInput.

        After Unavailable it may have been committed all the same: the server's answer did not come, or not in time.
        """
        busy = self._busy_seconds if durable else min(HASTY_SECONDS, self._busy_seconds)
        with (
            database_errors(self.place),
            self._writer.connect() as connection,
            # What is not durable is short, as a whole: beside its wait for the lock.
            nullcontext() if durable else self._watch.over(connection, more=busy),
        ):
            with connection.begin() as transaction:
                # The wait for the lock ends by itself, and must not be taken for a server that is silent.
                with self._watch.over(connection, more=busy):
                    connection.execute(_LOCK, self._locking(tenant, busy))
                if not durable:
                    connection.execute(_HASTY)
                yield connection
                with self._watch.over(connection):
                    transaction.commit()
            if not durable:
                with connection.begin():
                    connection.execute(_CATCH_UP)

    @staticmethod
    def _locking(tenant: str | None, busy: float) -> dict[str, Any]:
        return {
            "tenant": tenant or EVERY_TENANT,
            "busy": f"{1000 * busy:.0f}",
            "silent": f"{1000 * SILENT_SECONDS}",
            "name": WRITE_LOCK,
        }

    def flush(self, *, scrub: bool = False) -> None:
        """Does nothing: whatever was committed is durable when its transaction has ended."""

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:  # noqa: ARG002 - as the port names it
        """Nothing: the server checks its pages as it reads them (``data_checksums``)."""
        return ()

    def pulse(self) -> None:
        """Only the server can tell."""

    def close(self) -> None:
        """Closes the connections that no transaction uses."""
        self._writer.dispose()


def _engine(url: URL, busy_seconds: float) -> Engine:
    try:
        return create_engine(
            url,
            connect_args=_CONNECTION,
            pool_size=4,
            max_overflow=12,
            pool_timeout=busy_seconds,
            hide_parameters=True,
        )
    except ImportError as error:
        raise Unavailable(
            "the driver for PostgreSQL is not installed", "pip install 'tailorbird[postgres]'", code="package_missing"
        ) from error
    except (ArgumentError, ValueError):
        raise InvalidInput(
            "the hosts of the database URL cannot be read",
            "write postgresql://user:password@one:5432,two:5432/database: names or IPv4 addresses, no port after the question mark",
            code="database_url",
        ) from None


def _ask_before_use(engine: Engine, watch: ServerWatch) -> None:
    """Has a connection of the pool asked whether it is alive before each use: as ``pool_pre_ping``, which would wait without end."""

    @event.listens_for(engine, "connect")
    def made(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_FRESH] = True

    @event.listens_for(engine, "checkout")
    def taken(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        if record.info.pop(_FRESH, False):
            return
        try:
            with watch.over_driver(connection):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # all that are older are replaced


def _place_of(url: URL) -> str:
    """Where the database is, without what a password may stand in."""
    named = url.query.get("host") or "localhost"
    host = url.host or (named if isinstance(named, str) else " or ".join(named))
    return f"{url.database} on {host}" + (f":{url.port}" if url.port else "")
