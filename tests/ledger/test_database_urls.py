"""URLs that name no database in which a record can be kept."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import InvalidInput
from tailorbird.ledger import open_ledger
from tailorbird.ledger.database import open_database


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////tmp/what? no.db",
        "mysql://u:secret@h/d",
        "postgresql://u:se@secret@host/d",
        "nonsense",
    ],
)
def test_a_url_that_names_no_database_is_refused(wrong):
    with pytest.raises(InvalidInput) as refused:
        open_ledger(wrong)
    assert refused.value.error_code == "invalid_input"
    assert "secret" not in str(refused.value)
    assert "secret" not in refused.value.hint


@pytest.mark.parametrize(
    "driver",
    [
        "postgresql",
    ],
)
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
