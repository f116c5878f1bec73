"""All or nothing, tampering, and what the database's own errors become."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from contextlib import closing
from pathlib import Path

import ledger_samples as sample
import pytest
from ledger_samples import digest

from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.errors import Conflict, Corrupt, Internal, InvalidInput, Unavailable
from tailorbird.foundations.auditlog import check_entries
from tailorbird.ledger import database, open_ledger


class Stop(Exception):
    """Raised by the tests themselves."""


@pytest.fixture
def raw(url):
    """A connection of somebody who goes around the ledger."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=0.1)) as connection:
        yield connection


def test_a_change_and_its_event_stand_or_fall_together(ledger):
    def change_and_stop() -> None:
        with ledger.work("acme") as work:
            work.runs.add(sample.run("acme"))
            work.aliases.put(sample.alias("acme"))
            assert work.events.append([sample.event("acme")]) == 1
            raise Stop

    with pytest.raises(Stop):
        change_and_stop()
    with ledger.work("acme", write=False) as work:
        assert work.runs.all() == work.aliases.all() == ()
        assert work.events.size() == 0
    with ledger.system(write=False) as system:
        assert system.tenants.aliases_moved() == 0


def test_an_error_between_them_takes_both_back(ledger):
    def add_with_event() -> None:
        with ledger.work("acme") as work:
            work.events.append([sample.event("acme")])
            work.identities.add(sample.identity("acme"))

    add_with_event()
    with pytest.raises(Conflict):
        add_with_event()
    with ledger.system(write=False) as system:
        assert system.events.size() == 1


def test_reading_changes_nothing_even_when_asked_to(ledger):
    with pytest.raises(Unavailable) as refused, ledger.work("acme", write=False) as work:
        work.records.put(sample.counts(1))
    assert refused.value.error_code == "database_read_only"
    with ledger.work("acme") as work:
        assert work.records.put(sample.counts(1))


def test_a_reader_never_waits_and_sees_one_state(ledger):
    with ledger.work("acme") as writer:
        writer.records.put(sample.counts(1))
        with ledger.work("acme", write=False) as reader:
            assert reader.records.digests(SplitCounts) == ()
    with ledger.work("acme", write=False) as reader:
        assert len(reader.records.digests(SplitCounts)) == 1
        with ledger.work("acme") as writer:
            writer.records.put(sample.counts(2))
        assert len(reader.records.digests(SplitCounts)) == 1


def test_threads_share_a_ledger(ledger):
    def write(n: int) -> None:
        for i in range(10):
            with ledger.work("acme") as work:
                work.records.put(sample.counts(100 * n + i))
                work.events.append([sample.event("acme", i)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.system(write=False) as system:
        assert check_entries(system.events.entries(), [], size=60, root=system.events.root()) == ()


def test_a_tampered_record_is_refused(ledger, raw):
    with ledger.work("acme") as work:
        name = work.records.put(sample.counts(1))
    assert raw.execute("UPDATE records SET body = replace(body, ':1', ':7')").rowcount == 1
    with ledger.work("acme", write=False) as work, pytest.raises(Corrupt) as refused:
        work.records.get(SplitCounts, name)
    assert refused.value.error_code == "record_corrupt"


def test_a_tampered_release_is_refused(ledger, raw):
    release = sample.release("acme")
    with ledger.work("acme") as work:
        work.releases.add(release)
    raw.execute("UPDATE releases SET content = replace(content, 'lora', 'full')")
    for call in (lambda w: w.releases.get(release.digest), lambda w: w.releases.all()):
        with ledger.work("acme", write=False) as work, pytest.raises(Corrupt):
            call(work)


def test_a_row_that_is_no_value_is_refused(ledger, raw):
    with ledger.work("acme") as work:
        work.runs.add(sample.run("acme"))
    raw.execute("UPDATE runs SET state = 'flying'")
    with ledger.work("acme", write=False) as work, pytest.raises(Corrupt):
        work.runs.get("run0001")


TAMPERINGS = {
    "a changed event": "UPDATE log_entries SET body = replace(body, 'ada', 'bob') WHERE \"index\" = 3",
    "a changed hash": 'UPDATE log_entries SET leaf_hash = (SELECT leaf_hash FROM log_entries WHERE "index" = 2) WHERE "index" = 3',
    "a missing entry": 'DELETE FROM log_entries WHERE "index" = 3',
    "a missing tail": 'DELETE FROM log_entries WHERE "index" >= 8',
    "another frontier": "UPDATE log_frontier SET edge = replace(edge, 'a', 'b')",
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_tampered_log_is_found(ledger, raw, how):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(10)])
    assert raw.execute(TAMPERINGS[how]).rowcount >= 1
    with ledger.system(write=False) as system:
        assert check_entries(system.events.entries(), [], size=system.events.size(), root=system.events.root())


@pytest.mark.parametrize("edge", ["[]", '["zz"]', "7", "null", "x"])
def test_a_broken_frontier_stops_the_log(ledger, raw, edge):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(3)])
    raw.execute("UPDATE log_frontier SET edge = ?", (edge,))
    with ledger.system() as system, pytest.raises(Corrupt) as refused:
        system.events.append([sample.event("acme")])
    assert refused.value.error_code in ("log_corrupt", "record_corrupt")


def test_an_entry_that_is_no_event_is_refused(ledger, raw):
    with ledger.system() as system:
        system.events.append([sample.event("acme")])
    raw.execute("UPDATE log_entries SET body = 'x'")
    with ledger.system(write=False) as system, pytest.raises(Corrupt, match="entry 0"):
        list(system.events.entries())


@pytest.mark.parametrize("column", ["tenant", "subject"])
def test_an_entry_cannot_be_hidden_by_the_columns_it_is_found_by(ledger, raw, column):
    with ledger.system() as system:
        system.events.append([sample.event("acme")])
    raw.execute(f"UPDATE log_entries SET {column} = 'globex'")
    with ledger.system(write=False) as system, pytest.raises(Corrupt, match="entry 0"):
        list(system.events.entries())


@pytest.mark.parametrize("column", ["targets", "previous"])
def test_a_list_that_is_none_is_refused(ledger, raw, column):
    with ledger.work("acme") as work:
        work.aliases.put(sample.alias("acme"))
    raw.execute(f"UPDATE aliases SET {column} = '[' || {column}")
    with ledger.work("acme", write=False) as work, pytest.raises(Corrupt):
        work.aliases.get("routing")


def test_a_locked_database_is_busy(monkeypatch, url, raw):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    ledger = open_ledger(url)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as refused, ledger.work("acme"):
        pass
    assert refused.value.error_code == "database_busy"
    with ledger.work("acme", write=False):
        pass
    raw.execute("COMMIT")
    with ledger.work("acme"):
        pass
    ledger.close()


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'typo.db'}")
    with pytest.raises(Unavailable) as refused, ledger.system():
        pass
    assert refused.value.error_code == "database_unreachable"
    assert "tailorbird init" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_tables_says_so(tmp_path):
    (tmp_path / "empty.db").touch()
    ledger = open_ledger(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Unavailable) as refused, ledger.work("acme"):
        pass
    assert refused.value.error_code == "database_not_migrated"
    ledger.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    (tmp_path / "letter.db").write_text("Dear reader, " * 100)
    ledger = open_ledger(f"sqlite:///{tmp_path / 'letter.db'}")
    with pytest.raises(Corrupt) as refused, ledger.work("acme"):
        pass
    assert refused.value.error_code == "database_corrupt"


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite:////tmp/what? no.db",
        "mysql://u:secret@h/d",
        "nonsense",
        "sqlite",
    ],
)
def test_a_url_that_names_no_file_is_refused(wrong):
    with pytest.raises(InvalidInput) as refused:
        open_ledger(wrong)
    assert refused.value.error_code == "database_url"
    assert "secret" not in str(refused.value)


def test_no_text_of_a_row_leaves_in_an_error(ledger, raw):
    secret = "words of " + "a row"
    raw.execute("ALTER TABLE splits RENAME COLUMN row_group TO other")
    with pytest.raises(Internal) as refused, ledger.work("acme") as work:
        work.splits.remember("routing", {digest(1): ("train", secret)})
    told = "".join(traceback.format_exception(refused.value))
    assert "INSERT INTO splits" in told
    assert secret not in told


def test_odd_paths_work(tmp_path: Path):
    folder = tmp_path / "50% of #1 käse & co"
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.migrate()
    with ledger.system() as system:
        assert system.tenants.all() == ()
    ledger.close()
    assert (folder / "ledger.db").is_file()
    assert (folder / "ledger.db").stat().st_mode & 0o077 == 0
