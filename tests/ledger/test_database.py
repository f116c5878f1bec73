"""The tables of a new database, on both databases: once, whole, and of this schema alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from tailorbird.domain.errors import Unavailable
from tailorbird.ledger import database, open_ledger


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = create_engine(url, poolclass=NullPool)
    yield engine
    engine.dispose()


def migrated(url: str) -> str:
    with closing(open_ledger(url)) as ledger:
        ledger.migrate()
    return url


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
    }


def test_migrating_again_changes_nothing(empty_url):
    before = schema(migrated(empty_url))
    assert len(before) > 14
    assert schema(migrated(empty_url)) == before


def test_a_migration_that_breaks_off_leaves_nothing(empty_url, monkeypatch):
    class Killed(BaseException):
        """Stands for a kill in the middle."""

    def half(connection: Connection) -> None:
        make(connection)
        raise Killed

    make = database._make
    with closing(open_ledger(empty_url)) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(database, "_make", half)
            with pytest.raises(Killed):
                ledger.migrate()
        assert schema(empty_url) == {}
        ledger.migrate()
    assert len(schema(empty_url)) > 14


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE tailorbird_schema SET version = '9999'", id="another"),
        pytest.param("DELETE FROM tailorbird_schema", id="none-said"),
        pytest.param("DROP TABLE tailorbird_schema", id="before-there-was-one"),
    ],
)
def test_a_database_of_another_schema_is_refused(empty_url, statement):
    with engine_of(migrated(empty_url)) as engine, engine.begin() as connection:
        connection.execute(text(statement))
    before = schema(empty_url)
    with pytest.raises(Unavailable) as refused:
        migrated(empty_url)
    assert refused.value.error_code == "database_schema"
    assert "name a new database" in refused.value.hint
    assert schema(empty_url) == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable) as refused:
        migrated(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")
    assert refused.value.error_code == "database_unreachable"
