"""Row-level security and roles of a PostgreSQL database: what gateway and worker may do, and which tenant's rows a transaction sees.

Each transaction names its tenant in the setting ``tailorbird.tenant`` (``*`` stands above tenants); where none is named, no tenant's row is
seen. The owner of the tables, who makes them, is exempt from both. All statements can be run again.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Table, text

from tailorbird.ledger.tables import metadata

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
        "key_usage",
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
