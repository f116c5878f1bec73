"""From nothing to the newest schema: once, whole, and whoever else does it at the same time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from tailorbird.domain.errors import Unavailable
from tailorbird.ledger import migration, open_ledger
from tailorbird.ledger.tables import metadata


def migrated(file: Path) -> Path:
    ledger = open_ledger(f"sqlite:///{file}")
    ledger.migrate()
    ledger.close()
    return file


def test_the_migrations_make_exactly_the_tables(tmp_path):
    engine = create_engine(f"sqlite:///{migrated(tmp_path / 'made.db')}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = {
            table: {c["name"]: (str(c["type"]), c["nullable"]) for c in inspect(connection).get_columns(table)} for table in metadata.tables
        }
        keys = {table: inspect(connection).get_pk_constraint(table)["constrained_columns"] for table in metadata.tables}
    engine.dispose()
    assert keys == {name: [c.name for c in table.primary_key.columns] for name, table in metadata.tables.items()}
    expected = {
        name: {c.name: (c.type.compile(engine.dialect), c.nullable) for c in table.columns} for name, table in metadata.tables.items()
    }
    assert made == expected


def test_migrating_again_changes_nothing(tmp_path):
    file = migrated(tmp_path / "twice.db")
    before = schema(file)
    assert len(before) > 14
    migrated(file)
    assert schema(file) == before


def test_the_newest_revision_is_the_one_that_is_named():
    assert ScriptDirectory(str(Path(migration.__file__).parent / "migrations")).get_heads() == [migration.NEWEST]


def test_a_migration_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    class Killed(BaseException):
        """Stands for a kill in the middle."""

    def half(connection: object) -> None:
        upgrade(connection)
        raise Killed

    upgrade = migration._upgrade
    ledger = open_ledger(f"sqlite:///{tmp_path / 'half.db'}")
    with monkeypatch.context() as patched:
        patched.setattr(migration, "_upgrade", half)
        with pytest.raises(Killed):
            ledger.migrate()
    assert schema(tmp_path / "half.db") == []
    ledger.migrate()
    assert len(schema(tmp_path / "half.db")) > 14
    ledger.close()


def test_a_newer_database_is_refused(tmp_path):
    file = migrated(tmp_path / "newer.db")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable) as refused:
        migrated(file)
    assert refused.value.error_code == "database_newer"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable) as refused:
        migrated(tmp_path / "file" / "ledger.db")
    assert refused.value.error_code == "database_unreachable"


def schema(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as connection:
        return sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
