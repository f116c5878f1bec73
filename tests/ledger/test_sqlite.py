"""What is special about a database that is a file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import support.ledger_samples as sample
from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.ledger import database_errors, open_ledger, sqlite

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


@pytest.mark.parametrize(("free", "code"), [(4096, "disk_full"), (2**30, "database_unreachable")])
def test_a_file_that_cannot_be_opened_for_want_of_space_is_told_so(tmp_path, fresh_sqlite, monkeypatch, free: int, code: str):
    """SQLite says only that it cannot open the file where the index of its log finds no room; here a folder is in that one's way."""
    url = fresh_sqlite(tmp_path)
    for left in (tmp_path / "ledger.db-wal", tmp_path / "ledger.db-shm"):
        left.unlink(missing_ok=True)
        left.mkdir()
    monkeypatch.setattr(database_errors, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(Unavailable) as refused, open_ledger(url).work("acme"):
        pass
    assert refused.value.error_code == code


@pytest.mark.parametrize("order", [(True, False, True), (False, True, False)])
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


HASTY = """
import os, sys
from tailorbird.ledger import open_ledger
sys.path.insert(0, sys.argv[2])
from support import ledger_samples as sample
with open_ledger(sys.argv[1]).work("acme", durable=False) as work:
    work.events.append([sample.event("acme", n) for n in range(7)])
os.kill(os.getpid(), 9)
"""


def test_what_is_not_durable_survives_its_process(tmp_path, fresh_sqlite):
    url = fresh_sqlite(tmp_path)
    killed = subprocess.run([sys.executable, "-c", HASTY, url, str(Path(__file__).parents[1])], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    ledger = open_ledger(url)
    with ledger.work("acme", write=False) as work:
        assert work.events.size() == 7
    ledger.close()


def test_whoever_empties_the_log_beside_a_dump_keeps_nobody_from_writing(tmp_path, fresh_sqlite, monkeypatch):
    """SQLite holds the write lock while it waits for readers: half a minute, where it may."""
    monkeypatch.setattr("tailorbird.ledger.sqlite._SCRUBS", 2)
    monkeypatch.setattr("tailorbird.ledger.sqlite._SCRUB_MS", 20)
    ledger, log = open_ledger(fresh_sqlite(tmp_path)), tmp_path / "ledger.db-wal"
    with ledger.work("acme") as work:
        work.events.append([sample.event("acme")])
    reader = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log_entries").fetchone()
    with ledger.work("acme") as work:
        work.events.append([sample.event("acme", 1)])
    writer = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=2.0, check_same_thread=False)
    with ThreadPoolExecutor(1) as pool:
        emptied = pool.submit(ledger.flush, scrub=True)
        while not emptied.done():
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("ROLLBACK")
    emptied.result()
    assert log.stat().st_size > 0, "a reader sees what was there before"
    reader.close()
    ledger.flush(scrub=True)
    assert log.stat().st_size == 0
    with ledger.work("acme", write=False) as work:
        assert work.events.size() == 2
        assert work.events._connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    writer.close()
    ledger.close()
