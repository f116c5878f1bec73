"""What is special about a database that is a file."""

from __future__ import annotations

import pytest

import support.ledger_samples as sample
from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.ledger import open_ledger, sqlite

#: Before the tests put an end to waits for the disk.
AS_SHIPPED = dict(sqlite.SYNCHRONOUS)


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'typo.db'}")
    with pytest.raises(Unavailable) as refused, ledger.system():
        pass
    assert refused.value.error_code == "database_unreachable"
    assert "tailorbird init" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    (tmp_path / "letter.db").write_text("Dear reader, " * 100)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'letter.db'}")
    with pytest.raises(Corrupt) as refused, ledger.work("acme"):
        pass
    assert refused.value.error_code == "database_corrupt"


def test_a_disk_without_space_is_said_to_be_full_and_nothing_is_lost(tmp_path, fresh_sqlite):
    ledger = open_ledger(fresh_sqlite(tmp_path))
    with ledger.work("acme") as work:
        work.events.append([sample.event("acme")])
        work.events._connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite makes it the present size
    with pytest.raises(Unavailable) as refused, ledger.work("acme") as work:
        work.events.append([sample.event("acme", n) for n in range(2000)])
    assert refused.value.error_code == "disk_full"
    with ledger.work("acme", write=False) as work:
        assert work.events.size() == 1
    ledger.close()


@pytest.mark.parametrize(
    "order",
    [
        (True, False, True),
    ],
)
def test_only_what_must_be_durable_waits_for_the_disk(tmp_path, fresh_sqlite, order, monkeypatch):
    monkeypatch.setattr(sqlite, "SYNCHRONOUS", AS_SHIPPED)
    ledger = open_ledger(fresh_sqlite(tmp_path))
    for durable in order:
        with ledger.work("acme", durable=durable) as work:
            work.events.append([sample.event("acme")])
            assert work.events._connection.exec_driver_sql("PRAGMA synchronous").scalar() == (2 if durable else 1)
    with ledger.work("acme", write=False) as work:
        assert work.events.size() == 3
    ledger.close()
