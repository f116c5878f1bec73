"""URLs that name no database in which a record can be kept."""

from __future__ import annotations

import sys

import pytest

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.ledger import open_ledger
from tailorbird.ledger.database import open_database


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:////tmp/what? no.db",
        "mysql://u:secret@h/d",
        "postgresql://u:secret@host",
        "postgresql://u:secret@host:port/d",
        "postgresql://u:se@secret@host/d",
        "postgresql+asyncpg://u:secret@host/d",
        "postgresql://u:secret@[::1]:5432,[::2]:5432/d",
        "postgresql://u:secret@one,two/d?port=5433",
        "nonsense",
        "sqlite",
    ],
)
def test_a_url_that_names_no_database_is_refused(wrong):
    with pytest.raises(InvalidInput) as refused:
        open_ledger(wrong)
    assert refused.value.error_code == "invalid_input"
    assert "secret" not in str(refused.value)
    assert "secret" not in refused.value.hint


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_several_hosts_are_taken_as_libpq_writes_them(driver):
    database = open_database(f"{driver}://u:se%2Fcret@db1:5433,db2/ledger?target_session_attrs=read-write")
    (_, options) = database._writer.dialect.create_connect_args(database._writer.url)
    named = {name: options[name] for name in ("host", "port", "dbname", "user", "password", "target_session_attrs")}
    assert named == {
        "host": "db1,db2",
        "port": "5433,5432",
        "dbname": "ledger",
        "user": "u",
        "password": "se/cret",
        "target_session_attrs": "read-write",
    }
    assert "se%2Fcret" not in database.place
    assert "db1" in database.place


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Unavailable) as refused:
        open_ledger("postgresql://u:secret@host/d")
    assert refused.value.error_code == "package_missing"
    assert refused.value.hint == "pip install 'tailorbird[postgres]'"
