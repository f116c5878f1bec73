"""What a database of PostgreSQL refuses to gateway and worker, and whose rows a transaction sees there, whatever the statement says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

import support.ledger_samples as sample
from support.postgresql import BOTH, GATEWAY, WORKER, Server, as_user
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import Tenant
from tailorbird.ledger import open_ledger
from tailorbird.ledger.database import open_database
from tailorbird.ledger.postgresql import APPEND_ONLY
from tailorbird.ledger.tables import metadata

#: Runs a statement as a user, within a tenant or above them, and says how many rows it touched or found.
Run = Callable[..., int]


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """A database with a few rows of acme, which its owner and nobody else wrote."""
    made = server.copy()
    with closing(open_ledger(made)) as ledger, ledger.work("acme") as work:
        work.identities.add(sample.identity("acme"))
        work.keys.add(sample.api_key("acme"))
        work.runs.add(sample.run("acme"))
        work.requests.add([sample.request("acme")])
        work.events.append([sample.event("acme")])
    return made


@pytest.fixture
def run(url: str) -> Run:
    def run(statement: str, user: str = BOTH, tenant: str | None = None) -> int:
        with closing(open_database(as_user(url, user))) as database, database.writing(tenant) as connection:
            return connection.execute(text(statement)).rowcount

    return run


def refused(run: Run, statement: str, user: str, tenant: str | None = None) -> bool:
    try:
        run(statement, user, tenant)
    except TailorbirdError as error:
        return error.error_code == "database_forbidden"
    return False


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
@pytest.mark.parametrize("user", [GATEWAY, WORKER])
def test_the_log_only_grows(run: Run, table: str, user: str) -> None:
    column = next(iter(metadata.tables[table].c)).name
    assert refused(run, f'UPDATE {table} SET "{column}" = 0', user)
    assert refused(run, f"DELETE FROM {table}", user)
    assert refused(run, f"TRUNCATE {table}", user)
    assert refused(run, f"DROP TABLE {table}", user)
    run(f"SELECT * FROM {table}", user)


@pytest.mark.parametrize("table", ["tenants", "identities", "api_keys", "sessions", "approvals", "aliases", "rollouts"])
def test_a_worker_lets_nobody_in_and_decides_nothing(run: Run, table: str) -> None:
    assert refused(run, f"DELETE FROM {table}", WORKER)
    assert refused(run, f"INSERT INTO {table} SELECT * FROM {table}", WORKER)
    column = "name" if table == "tenants" else "tenant"
    update = f"UPDATE {table} SET {column} = {column} WHERE false"
    assert refused(run, update, WORKER)
    assert not refused(run, update, GATEWAY)


@pytest.mark.parametrize("table", ["releases", "looks"])
def test_a_gateway_drafts_no_release(run: Run, table: str) -> None:
    assert refused(run, f"INSERT INTO {table} SELECT * FROM {table}", GATEWAY)
    assert not refused(run, f"INSERT INTO {table} SELECT * FROM {table} WHERE false", WORKER)


def test_a_look_at_a_sealed_test_is_not_undone_by_a_worker(run: Run) -> None:
    same = "SET tenant = tenant WHERE false"
    assert refused(run, "DELETE FROM looks", WORKER)
    assert refused(run, f"UPDATE looks {same}", WORKER)
    assert refused(run, f"UPDATE looks {same}", GATEWAY)
    assert not refused(run, "DELETE FROM looks WHERE false", GATEWAY)


def seize(url: str) -> str:
    """Calls the function that reads as the owner with a temporary view in place of its table; returns who the view was read as."""
    with closing(open_database(as_user(url, WORKER))) as database, database.writing() as connection:
        connection.execute(
            text("CREATE FUNCTION pg_temp.pwn() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'as %', current_user; END $$")
        )
        connection.execute(text("""CREATE TEMP VIEW log_entries AS SELECT pg_temp.pwn() AS "index", 'x'::varchar AS leaf_hash"""))
        connection.execute(text("GRANT SELECT ON log_entries TO PUBLIC"))
        try:
            found = connection.execute(text("SELECT place, hashed FROM log_leaves(ARRAY[0])")).all()
        except ProgrammingError as error:
            return str(error.orig)
        assert found != [(0, "x")]
        return "nobody"


def test_the_function_that_reads_as_the_owner_takes_no_object_of_its_caller(url: str) -> None:
    assert seize(url) == "nobody"


def test_every_function_that_runs_as_its_owner_names_temporary_objects_last(url: str) -> None:
    with closing(open_database(url)) as database, database.reading() as connection:
        made = "SELECT array_to_string(proconfig, ';') FROM pg_proc WHERE prosecdef AND pronamespace = current_schema()::regnamespace"
        assert connection.scalars(text(made)).all() == ["search_path=public, pg_temp"]


def test_every_table_with_a_tenant_has_a_policy(url: str) -> None:
    with closing(open_database(url)) as database, database.reading() as connection:
        held = set(connection.scalars(text("SELECT tablename FROM pg_policies WHERE policyname = 'own_tenant'")))
        on = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity")))
    assert held == on == {table.name for table in metadata.sorted_tables if "tenant" in table.c} | {"tenants"}


@pytest.mark.parametrize("table", ["identities", "api_keys", "runs", "requests", "log_entries"])
def test_a_statement_without_a_tenant_finds_the_rows_of_its_transaction(run: Run, table: str) -> None:
    assert run(f"SELECT * FROM {table}", tenant="acme") == 1
    assert run(f"SELECT * FROM {table}") == 1
    assert run(f"SELECT * FROM {table}", tenant="globex") == 0
    if table not in APPEND_ONLY:
        assert run(f"UPDATE {table} SET tenant = tenant", tenant="globex") == 0
        assert run(f"DELETE FROM {table}", tenant="globex") == 0


def test_no_row_is_written_for_another_tenant(run: Run) -> None:
    row = "INSERT INTO secrets (tenant, name, value) VALUES ('acme', 'salt', 'x')"
    assert refused(run, row, BOTH, "globex")
    assert not refused(run, row, BOTH, "acme")


def test_a_transaction_that_names_nobody_finds_nothing(url: str) -> None:
    with closing(open_database(as_user(url, BOTH))) as database, database.reading() as connection:
        connection.execute(text("SELECT set_config('tailorbird.tenant', '', true)"))
        for table in ("tenants", "identities", "log_entries"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0


def test_an_owner_who_is_no_administrator_migrates(server: Server) -> None:
    owned = server.owned()
    with closing(open_ledger(owned)) as ledger:
        ledger.migrate()
        with ledger.system() as system:
            for name in ("acme", "globex"):
                system.tenants.add(Tenant(name=name, created_at=sample.START))
        with ledger.work("acme") as work:
            work.events.append([sample.event("acme")])
    with closing(open_ledger(as_user(owned, BOTH))) as ledger, ledger.work("globex") as work:
        work.events.append([sample.event("globex")])
        assert len(work.events.latest()) == 2  # that it was made, and this one
        assert work.events.root_at(3)
        assert work.events.inclusion(0)
