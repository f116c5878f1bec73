"""PostgreSQL database of the ledger.

Reads are ``REPEATABLE READ, READ ONLY``: one state, no waiting. Writes are ``READ COMMITTED`` behind one transaction-level advisory lock,
which makes them come one after another, as SQLite does. The alternatives cost more than they give: ``SERIALIZABLE`` aborts transactions
that the caller would have to run again, and row locks must be taken in one order by every repository, now and later, or they deadlock.
Each transaction names its tenant in the setting ``tailorbird.tenant`` (``*`` stands above tenants), to whose rows policies hold everybody
but the owner of the tables, who makes them. Roles say what gateway and worker may do with each table.
A connection that was lost is noticed before its next use and replaced, so a server may go away and come back, or another take its place.

What is not ``durable`` is committed in haste, which gives the write lock back at once, and waited for afterwards, by nobody else: until it
is on the server's disk and, where the server has synchronous standbys, on theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, Table, create_engine, text
from sqlalchemy.exc import ArgumentError

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ledger.database_errors import HASTY_SECONDS, database_errors
from tailorbird.ledger.tables import metadata

#: How long to wait for a connection to be made, in seconds.
CONNECT_SECONDS = 10

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


#: In place of a tenant's name: all of them.
EVERY_TENANT = "*"

GATEWAY, WORKER = "tailorbird_gateway", "tailorbird_worker"

#: The log's own tables, which only grow: entries, hashes of subtrees, signed checkpoints.
APPEND_ONLY = frozenset({"log_entries", "log_nodes", "checkpoints"})

#: Looks at sealed tests are counted: the worker adds them and changes none; the gateway removes them with their tenant.
_COUNTED = "looks"

#: What the gateway does not add, because it follows from work on data.
_NOT_ADDED_BY_GATEWAY = frozenset({"releases"})

#: What the worker does not write: who comes in, who decides, what answers, and what was answered.
_NOT_WRITTEN_BY_WORKER = frozenset(
    {
        "tenants",
        "identities",
        "api_keys",
        "sessions",
        "approvals",
        "judgements",
        "aliases",
        "alias_moves",
        "rollouts",
        "gateways",
        "usage",
        "requests",
        "feedback",
        "reviews",
        "contents",
    }
)

_SEEN = "(SELECT current_setting('tailorbird.tenant', true))"

#: Hashes of entries, for proofs, are told whoever's the entries are; they are salted. The function reads as the owner of the tables and so
#: takes no name from its caller: the schema is spelled out, and ``pg_temp``, which PostgreSQL searches first unless named, comes last.
_LEAVES = """
CREATE OR REPLACE FUNCTION {schema}.log_leaves(asked integer[]) RETURNS TABLE (place integer, hashed varchar)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $body$
SELECT entries."index", entries.leaf_hash FROM {schema}.log_entries AS entries WHERE entries."index" OPERATOR(pg_catalog.=) ANY (asked)
$body$
"""
_LEAVES_FOR_ROLES = "REVOKE ALL ON FUNCTION {schema}.log_leaves(integer[]) FROM PUBLIC"

#: Nobody but owners makes objects that somebody else's statement could mean by an unqualified name.
_NO_FOREIGN_OBJECTS = (
    "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$",
    "DO $$ BEGIN EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema()); END $$",
)


class PostgresqlDatabase:
    """Implements ``Database``. The database itself is made by whoever runs the server (``createdb``)."""

    def __init__(self, url: URL, busy_seconds: float) -> None:
        if not url.database or "@" in (url.host or ""):
            raise InvalidInput(
                "the database URL names no database of a PostgreSQL server",
                "write it as postgresql://user:password@host/database, with @, : and / of a password as %40, %3A and %2F",
            )
        self.place = _place_of(url)
        engine = _engine(url.set(drivername="postgresql+psycopg"), busy_seconds)
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
            connection.execute(_SCOPE, {"tenant": tenant or EVERY_TENANT})
            yield connection

    @contextmanager
    def writing(self, tenant: str | None = None, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that holds the write lock; leaving the block commits. Raises Unavailable, Conflict, Corrupt, InvalidInput.

        After Unavailable it may have been committed all the same: the server's answer did not come.
        """
        busy = self._busy_seconds if durable else min(HASTY_SECONDS, self._busy_seconds)
        begin = {
            "tenant": tenant or EVERY_TENANT,
            "busy": f"{1000 * busy:.0f}",
            "silent": f"{1000 * SILENT_SECONDS}",
            "name": WRITE_LOCK,
        }
        with database_errors(self.place), self._writer.connect() as connection:
            with connection.begin():
                connection.execute(_LOCK, begin)
                if not durable:
                    connection.execute(_HASTY)
                yield connection
            if not durable:
                with connection.begin():
                    connection.execute(_CATCH_UP)

    def flush(self, *, scrub: bool = False) -> None:
        """Does nothing: whatever was committed is durable when its transaction has ended."""

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:  # noqa: ARG002 - as the port names it
        """Nothing: the server checks its pages as it reads them (``data_checksums``)."""
        return ()

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
            pool_pre_ping=True,
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
        ) from None


def _place_of(url: URL) -> str:
    """Where the database is, without what a password may stand in."""
    named = url.query.get("host") or "localhost"
    host = url.host or (named if isinstance(named, str) else " or ".join(named))
    return f"{url.database} on {host}" + (f":{url.port}" if url.port else "")


def secure(connection: Connection) -> None:
    """Sets policies and, for the roles that the server has, privileges. Run by the owner of the tables."""
    schema = connection.scalar(text("SELECT quote_ident(current_schema())"))
    for statement in (_LEAVES.format(schema=schema), _LEAVES_FOR_ROLES.format(schema=schema), *policies()):
        connection.execute(text(statement))
    known = set(
        connection.scalars(
            text("SELECT rolname FROM pg_roles WHERE rolname IN (:gateway, :worker)"), {"gateway": GATEWAY, "worker": WORKER}
        )
    )
    for role in sorted(known):
        for statement in privileges(role):
            connection.execute(text(statement))
    if known and connection.scalar(text(_IS_DATABASE_OWNER)):
        for statement in _NO_FOREIGN_OBJECTS:
            connection.execute(text(statement))


#: Whether the user may take privileges on the database and the schema from others.
_IS_DATABASE_OWNER = """
SELECT bool_and(pg_has_role(owner, 'USAGE')) FROM (
    SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = current_schema()
) AS owners (owner)
"""


def policies() -> Iterator[str]:
    """Statements that let a transaction see and write the rows of its tenant alone."""
    for table in metadata.sorted_tables:
        column = _tenant_of(table)
        if column is None:
            continue
        own = f"{column} = {_SEEN} OR {_SEEN} = '{EVERY_TENANT}'"
        yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
        yield f"DROP POLICY IF EXISTS own_tenant ON {table.name}"
        yield f"CREATE POLICY own_tenant ON {table.name} USING ({own}) WITH CHECK ({own})"


def privileges(role: str) -> Iterator[str]:
    """Statements that give ``role`` what it may do with each table, and nothing else."""
    yield f"GRANT SELECT ON tailorbird_schema TO {role}"
    yield f"GRANT EXECUTE ON FUNCTION log_leaves(integer[]) TO {role}"
    for table in metadata.sorted_tables:
        yield f"REVOKE ALL ON {table.name} FROM {role}"
        yield f"GRANT {', '.join(_granted(role, table.name))} ON {table.name} TO {role}"


def role_script() -> str:
    """SQL that makes both roles and sets their privileges, for ``psql``; it can be run again."""
    lines = ["-- Roles of tailorbird. Run as an administrator, in the database of the record; then let each process log in as a member:"]
    lines += [
        f"--   CREATE ROLE gateway1 LOGIN PASSWORD '...' IN ROLE {GATEWAY};",
        f"--   CREATE ROLE worker1 LOGIN PASSWORD '...' IN ROLE {WORKER};",
    ]
    for role in (GATEWAY, WORKER):
        missing = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
        lines.append(f"DO $$ BEGIN IF {missing} THEN CREATE ROLE {role} NOLOGIN; END IF; END $$;")
        lines += [f"{statement};" for statement in privileges(role)]
    lines += [f"{statement};" for statement in _NO_FOREIGN_OBJECTS]
    return "\n".join(lines) + "\n"


def _granted(role: str, table: str) -> tuple[str, ...]:
    if table in APPEND_ONLY:
        return ("SELECT", "INSERT")
    if table == _COUNTED:
        return ("SELECT", "INSERT") if role == WORKER else ("SELECT", "DELETE")
    if role == WORKER and table in _NOT_WRITTEN_BY_WORKER:
        return ("SELECT",)
    if role == GATEWAY and table in _NOT_ADDED_BY_GATEWAY:
        return ("SELECT", "UPDATE", "DELETE")
    return ("SELECT", "INSERT", "UPDATE", "DELETE")


def _tenant_of(table: Table) -> str | None:
    """The column that says whose a row is; None above tenants."""
    if table.name == "tenants":
        return "name"
    return "tenant" if "tenant" in table.c else None
