"""What is special about a database that is a file."""

from __future__ import annotations

from pathlib import Path

import ledger_samples as sample
import pytest

from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.ledger import open_ledger


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


def test_odd_paths_work(tmp_path: Path):
    folder = tmp_path / "50% of #1 käse & co"
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.migrate()
    with ledger.system() as system:
        assert system.tenants.all() == ()
    ledger.close()
    assert (folder / "ledger.db").is_file()
    assert (folder / "ledger.db").stat().st_mode & 0o077 == 0


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
