"""From nothing to the newest schema, on both databases: once, whole, and whoever else does it at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

import support.ledger_samples as sample
from tailorbird.crypto import merkle
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.ladder import Conclusion
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState, StepState
from tailorbird.ledger import database, open_ledger
from tailorbird.ledger.database import open_database
from tailorbird.ledger.row_mapping import text_of
from tailorbird.ledger.tables import log_nodes, metadata
from tailorbird.system.build import build_name

#: Entries of the log that the oldest database holds: enough for nodes at three kept levels.
OLD_ENTRIES = 300
#: Entries by which its rows are taken as they are found: one for its identity, one for all that is anchored.
FOUND = 2

#: Revisions that change what rows hold or who may read them, and no table.
OF_ROWS_ALONE = ("0017", "0021", "0022")


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    engine.dispose()


def migrated(url: str) -> str:
    with closing(open_ledger(url)) as ledger:
        ledger.migrate()
    return url


def moved(url: str, revision: str) -> None:
    """Brings a database to any revision, up or down."""
    with closing(open_database(url)) as opened:
        opened.make()
        with opened.writing() as connection:
            current = MigrationContext.configure(connection).get_current_revision() or ""
            config = database.alembic_config(connection)
            (command.upgrade if revision > current else command.downgrade)(config, revision)


def schema(url: str) -> dict[str, Any]:
    """All that a schema is made of, and that two databases of one kind can be compared by."""
    with engine_of(url) as engine:
        found = inspect(engine)
        columns, keys, foreign = found.get_multi_columns(), found.get_multi_pk_constraint(), found.get_multi_foreign_keys()
        unique, indexes = found.get_multi_unique_constraints(), found.get_multi_indexes()
    return {
        table[1]: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in columns[table]],
            "key": keys[table]["constrained_columns"],
            "foreign": sorted(f"{f['constrained_columns']} of {f['referred_table']}" for f in foreign[table]),
            "unique": sorted(str(u["column_names"]) for u in unique[table]),
            "indexes": sorted(f"{i['name']} over {i['column_names']}" for i in indexes[table]),
        }
        for table in columns
        if table[1] != "alembic_version"
    }


def test_the_migrations_make_exactly_the_tables(empty_url):
    with engine_of(migrated(empty_url)) as engine, engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = {
            table: {c["name"]: (str(c["type"]), c["nullable"]) for c in inspect(connection).get_columns(table)} for table in metadata.tables
        }
        keys = {table: inspect(connection).get_pk_constraint(table)["constrained_columns"] for table in metadata.tables}
    assert keys == {name: [c.name for c in table.primary_key.columns] for name, table in metadata.tables.items()}
    expected = {
        name: {c.name: (stored_type(c.type.compile(engine.dialect)), c.nullable) for c in table.columns}
        for name, table in metadata.tables.items()
    }
    assert {name: {c: (stored_type(t), n) for c, (t, n) in columns.items()} for name, columns in made.items()} == expected


def stored_type(name: str) -> str:
    """PostgreSQL has two names for some types."""
    return {"FLOAT": "DOUBLE PRECISION", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP"}.get(name, name)


def test_migrating_again_changes_nothing(empty_url):
    before = schema(migrated(empty_url))
    assert len(before) > 14
    assert schema(migrated(empty_url)) == before


def test_down_and_up_again_is_where_it_was(empty_url):
    revisions = [script.revision for script in ScriptDirectory(str(database.SCRIPTS)).walk_revisions()][::-1]
    schemas = {}
    for revision in revisions:
        moved(empty_url, revision)
        schemas[revision] = schema(empty_url)
    assert len(revisions) - len(OF_ROWS_ALONE) == len({str(made) for made in schemas.values()})
    for revision in revisions[-2::-1]:
        moved(empty_url, revision)
        assert schema(empty_url) == schemas[revision]
    assert schema(migrated(empty_url)) == schemas[database.NEWEST]


def test_the_newest_revision_is_the_one_that_is_named():
    assert ScriptDirectory(str(database.SCRIPTS)).get_heads() == [database.NEWEST]


def test_a_migration_that_breaks_off_leaves_nothing(empty_url, monkeypatch):
    class Killed(BaseException):
        """Stands for a kill in the middle."""

    def half(connection: Connection) -> None:
        upgrade(connection)
        raise Killed

    upgrade = database._upgrade
    with closing(open_ledger(empty_url)) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(database, "_upgrade", half)
            with pytest.raises(Killed):
                ledger.migrate()
        assert schema(empty_url) == {}
        ledger.migrate()
    assert len(schema(empty_url)) > 14


def test_a_newer_database_is_refused(empty_url):
    with engine_of(migrated(empty_url)) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable) as refused:
        migrated(empty_url)
    assert refused.value.error_code == "database_newer"
    told = (
        f"the database has schema 9999, which tailorbird {build_name()} made; this is tailorbird {build_name()}, which knows schemas up to"
    )
    assert refused.value.message == f"{told} {database.NEWEST}"
    assert f"install tailorbird {build_name()} or a later one" in refused.value.hint


def test_a_newer_database_whose_build_left_no_name_is_refused(empty_url):
    moved(empty_url, database.NEWEST)
    with engine_of(empty_url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match="has schema 9999, which a newer version of tailorbird made; this is") as refused:
        migrated(empty_url)
    assert "install that version or a later one" in refused.value.hint


def test_the_build_that_migrated_is_named_anew_by_each_that_does(empty_url):
    moved(empty_url, "0028")
    with engine_of(migrated(empty_url)) as engine, engine.begin() as connection:
        assert connection.scalar(text("SELECT migrated_by FROM alembic_version")) == build_name()
        connection.execute(text("UPDATE alembic_version SET version_num = :newest, migrated_by = 'another'"), {"newest": database.NEWEST})
    with engine_of(migrated(empty_url)) as engine, engine.connect() as connection:
        assert connection.scalar(text("SELECT migrated_by FROM alembic_version")) == "another", "nothing was migrated"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable) as refused:
        migrated(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")
    assert refused.value.error_code == "database_unreachable"


class TestFromTheFirstSchema:
    """A database that version 0.1 made and filled, brought to the present."""

    @pytest.fixture
    def old_url(self, empty_url):
        moved(empty_url, "0001")
        with engine_of(empty_url) as engine, engine.begin() as connection:
            fill_first_schema(connection)
        return empty_url

    @pytest.fixture
    def ledger(self, old_url):
        with closing(open_ledger(migrated(old_url))) as ledger:
            yield ledger

    def test_the_log_verifies_and_has_its_proofs(self, ledger, old_url):
        with ledger.system(write=False) as system:
            log = system.events
            head, leaves = log.root(), [bytes.fromhex(entry.leaf_hash) for entry in log.entries()]
            assert check_entries(log.entries(), log.checkpoints(), size=log.size(), root=head) == ()
            for size in (1, 16, 100, 256, OLD_ENTRIES):
                assert log.root_at(size) == merkle.root(leaves[:size]).hex()
                proof = [bytes.fromhex(h) for h in log.consistency(size)]
                assert merkle.verify_consistency(size, merkle.root(leaves[:size]), OLD_ENTRIES + FOUND, bytes.fromhex(head), proof)
        with engine_of(old_url) as engine, engine.connect() as connection:
            assert len(connection.execute(log_nodes.select()).all()) == OLD_ENTRIES // 16 + OLD_ENTRIES // 256

    def test_the_log_goes_on(self, ledger):
        with ledger.work("acme") as work:
            assert work.events.append([sample.event("acme", n) for n in range(40)]) == OLD_ENTRIES + FOUND + 40
        with ledger.system(write=False) as system:
            log = system.events
            assert check_entries(log.entries(), log.checkpoints(), size=log.size(), root=log.root()) == ()
            assert log.root_at(OLD_ENTRIES + FOUND + 40) == log.root()

    def test_what_stands_is_anchored_as_it_is_found(self, ledger):
        with ledger.system(write=False) as system:
            *_, person, rows = system.events.entries()
            assert (person.event.kind, person.event.subject) == ("identity.found", "ada")
            assert (rows.event.kind, rows.event.actor) == ("tenant.anchored", "migration")
            assert set(rows.event.rows) == {"tenant", "identity/ada", "looks", "run/run0001"}
            assert {row.name: row.digest for row in system.anchors.found("acme")} == rows.event.rows
        ledger.migrate()
        with ledger.system(write=False) as system:
            assert system.events.size() == OLD_ENTRIES + FOUND

    def test_runs_and_steps_are_readable(self, ledger):
        with ledger.work("acme") as work:
            run = work.runs.get("run0001")
            assert (run.state, run.source, run.created_at) == (RunState.ACTIVE, None, sample.START.replace(microsecond=5))
            assert [(step.name, step.state, step.progress) for step in work.steps.of(run.id)] == [("plan", StepState.READY, None)]
            assert work.identities.get("ada").former_keys == ()
            assert work.requests.get("request-1").cost == 0.0

    def test_old_releases_stay_in_the_table(self, ledger, old_url):
        with engine_of(old_url) as engine, engine.connect() as connection:
            rows = connection.execute(text("SELECT digest, state, dossier FROM releases")).all()
        assert rows == [(sample.digest("old"), "production", None)]

    def test_old_looks_go_on_counting(self, ledger):
        """What they asked is not known: the same candidate asked anything pays for a look of its own."""
        with ledger.work("acme") as work:
            assert work.looks.count("routing") == 2
            assert work.looks.add("routing", sample.digest("s"), sample.digest("a"), sample.digest("q")) == 3

    def test_going_back_keeps_what_the_first_schema_had(self, old_url):
        before = rows_of(old_url)
        moved(migrated(old_url), "0001")
        after = rows_of(old_url)
        assert set(after.pop("log_entries")) > set(before.pop("log_entries"))
        assert [rows.pop("log_frontier")[0][:8] for rows in (after, before)] == ["(1, 302,", "(1, 300,"]
        assert after == before


@pytest.mark.parametrize(("release", "state"), [(None, RunState.NO_RELEASE), (sample.digest("release"), RunState.DONE)])
def test_an_earlier_run_without_a_release_is_told_from_one_that_is_done(empty_url, release: str | None, state: RunState):
    moved(empty_url, "0010")
    conclusion = Conclusion(ladder=sample.digest("ladder"), test=None, release=release, reason="no rung passes")
    body = text_of(conclusion)
    with engine_of(empty_url) as engine, engine.begin() as connection:
        fill = connection.execute
        fill(text("INSERT INTO tenants (name, created_at) VALUES ('acme', '2026-03-01 12:00:00.000005')"))
        fill(
            text(
                "INSERT INTO runs (tenant, id, number, objective_name, objective, fingerprint, folder, created_by, created_at, state) "
                "VALUES ('acme', 'run0001', 1, 'routing', :objective, :fingerprint, 'work', 'ada', '2026-03-01 12:00:00.000005', 'done')"
            ),
            {"objective": sample.digest("objective"), "fingerprint": sample.digest("fingerprint")},
        )
        step = "INSERT INTO steps (tenant, run, name, position, state, attempts, result, seconds) VALUES "
        fill(text(f"{step} ('acme', 'run0001', 'conclude', 1, 'done', 1, :result, 1.0)"), {"result": digest_of(conclusion)})
        record = "INSERT INTO records (tenant, kind, digest, number, body) VALUES ('acme', 'Conclusion', :digest, 1, :body)"
        fill(text(record), {"digest": digest_of(conclusion), "body": body})
    with closing(open_ledger(migrated(empty_url))) as ledger, ledger.work("acme", write=False) as work:
        assert work.runs.get("run0001").state is state
        assert work.steps.of("run0001")[0].message is None
    moved(empty_url, "0010")
    with engine_of(empty_url) as engine, engine.connect() as connection:
        assert connection.execute(text("SELECT state FROM runs")).scalar_one() == "done"


def test_a_release_that_was_let_in_by_degrees_is_rolling_out(empty_url):
    moved(empty_url, "0016")
    insert = (
        "INSERT INTO releases (tenant, digest, number, state, content, signature) VALUES ('acme', :digest, :number, :state, '{}', '{}')"
    )
    states = ("canary", "staged", "production")
    with engine_of(empty_url) as engine, engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name, created_at) VALUES ('acme', '2026-03-01 12:00:00.000005')"))
        for number, state in enumerate(states):
            connection.execute(text(insert), {"digest": sample.digest(state), "number": number, "state": state})

    def stored() -> tuple[str, ...]:
        with engine_of(empty_url) as engine, engine.connect() as connection:
            return tuple(connection.execute(text("SELECT state FROM releases ORDER BY number")).scalars())

    migrated(empty_url)
    assert stored() == ("rolling_out", "staged", "production")
    assert ReleaseState(stored()[0]) is ReleaseState.ROLLING_OUT
    moved(empty_url, "0016")
    assert stored() == states


def rows_of(url: str) -> dict[str, list[Any]]:
    with engine_of(url) as engine, engine.connect() as connection:
        tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
        return {name: sorted(map(str, connection.execute(text(f"SELECT * FROM {name}")))) for name in tables}


def fill_first_schema(connection: Connection) -> None:
    """Rows as version 0.1 wrote them, in plain SQL."""
    zone = "" if connection.dialect.name == "sqlite" else "+00:00"
    at = f"2026-03-01 12:00:00.000005{zone}"
    statements = [
        f"INSERT INTO tenants VALUES ('acme', '{at}')",
        f"INSERT INTO identities VALUES ('acme', 'ada', '[\"author\"]', '{'A' * 43}=', '{at}', NULL)",
        f"INSERT INTO runs VALUES ('acme', 'run0001', 1, 'routing', '{sample.digest('o')}', '{sample.digest('f')}', 'work', 'ada', '{at}',"
        " 'active')",
        "INSERT INTO steps VALUES ('acme', 'run0001', 'plan', 1, 'ready', NULL, NULL, 0, NULL, NULL, 0.0)",
        f"INSERT INTO releases VALUES ('acme', '{sample.digest('old')}', 1, 'production', '{{}}', '{{}}')",
        "INSERT INTO requests VALUES ('acme', 'request-1', 'key', 'routing', NULL, 'main', '/v1/chat/completions', 200, 'ok', NULL,"
        f" 'refund', 20, 2, 12.5, '{at}')",
        f"INSERT INTO looks VALUES ('acme', 'routing', '{sample.digest('s')}', '{sample.digest('a')}', 1)",
        f"INSERT INTO looks VALUES ('acme', 'routing', '{sample.digest('s')}', '{sample.digest('b')}', 2)",
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)
    leaves = []
    for index in range(OLD_ENTRIES):
        body = old_body(index)
        leaves.append(merkle.leaf_hash(body.encode()))
        row = {"i": index, "leaf": leaves[-1].hex(), "body": body}
        connection.execute(text("INSERT INTO log_entries VALUES (:i, :leaf, 'acme', 'run0001', :body)"), row)
    edge = [hashed.hex() for hashed in merkle.Frontier().extend(leaves)[0].edge]
    connection.execute(text("UPDATE log_frontier SET size = :size, edge = :edge"), {"size": OLD_ENTRIES, "edge": json.dumps(edge)})
    mark = {"root": merkle.root(leaves[:100]).hex(), "at": datetime(2026, 3, 1, tzinfo=UTC) if zone else "2026-03-01 00:00:00.000000"}
    connection.execute(text("INSERT INTO checkpoints VALUES (1, 'here', 100, :root, 'note', :at)"), mark)


def old_body(index: int) -> str:
    event = {"actor": "ada", "at": "2026-03-01T12:00:00+00:00", "data": {"n": index}, "kind": "run.started", "subject": "run0001"}
    return json.dumps(event | {"tenant": "acme"}, separators=(",", ":"), sort_keys=True)
