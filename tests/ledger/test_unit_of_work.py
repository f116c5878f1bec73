"""All or nothing, tampering, and what the database's own errors become."""

from __future__ import annotations

import traceback

import pytest

import support.ledger_samples as sample
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.errors import Corrupt, Internal, Unavailable
from tailorbird.domain.event import Remark
from tailorbird.ledger import database, open_ledger


class Stop(Exception):
    """Raised by the tests themselves."""


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


def test_a_tampered_record_is_refused(ledger, raw):
    with ledger.work("acme") as work:
        name = work.records.put(sample.counts(1))
    assert raw("UPDATE records SET body = replace(body, '1', '7')") == 1
    with ledger.work("acme", write=False) as work, pytest.raises(Corrupt) as refused:
        work.records.get(SplitCounts, name)
    assert refused.value.error_code == "record_corrupt"


TAMPERINGS = {
    "a changed event": "UPDATE log_entries SET body = replace(body, 'ada', 'bob') WHERE \"index\" = 3",
    "a missing entry": 'DELETE FROM log_entries WHERE "index" = 3',
    "another frontier": "UPDATE log_frontier SET edge = replace(edge, 'a', 'b')",
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_tampered_log_is_found(ledger, raw, how):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(10)])
    assert raw(TAMPERINGS[how]) >= 1
    with ledger.system(write=False) as system:
        assert check_entries(system.events.entries(), [], size=system.events.size(), root=system.events.root())


@pytest.mark.parametrize(
    "edge",
    [
        "[]",
        "7",
    ],
)
def test_a_broken_frontier_stops_the_log(ledger, raw, edge):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(3)])
    raw("UPDATE log_frontier SET edge = :edge", edge=edge)
    with ledger.system() as system, pytest.raises(Corrupt) as refused:
        system.events.append([sample.event("acme")])
    assert refused.value.error_code in ("log_corrupt", "record_corrupt")


@pytest.mark.parametrize("column", ["tenant", "subject"])
def test_an_entry_cannot_be_hidden_by_the_columns_it_is_found_by(ledger, raw, column):
    with ledger.system() as system:
        system.events.append([sample.event("acme")])
    raw(f"UPDATE log_entries SET {column} = 'globex'")
    with ledger.system(write=False) as system, pytest.raises(Corrupt, match="entry 0"):
        list(system.events.entries())


def test_a_writer_that_keeps_the_lock_makes_others_busy(monkeypatch, ledger, url):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    hasty = open_ledger(url)
    with ledger.work("acme"):
        with pytest.raises(Unavailable) as refused, hasty.work("acme"):
            pass
        with hasty.work("acme", write=False):
            pass
    assert refused.value.error_code == "database_busy"
    with hasty.work("acme"):
        pass
    hasty.close()


def test_a_database_without_tables_says_so(empty_url):
    database.open_database(empty_url).make()
    ledger = open_ledger(empty_url)
    with pytest.raises(Unavailable) as refused, ledger.work("acme"):
        pass
    assert refused.value.error_code == "database_schema"
    ledger.close()


def test_no_text_of_a_row_leaves_in_an_error(ledger, raw):
    secret = "words of " + "a row"
    raw("ALTER TABLE records RENAME COLUMN body TO other")
    with pytest.raises(Internal) as refused, ledger.work("acme") as work:
        work.records.put(Remark(text=secret, salt="0"))
    told = "".join(traceback.format_exception(refused.value))
    assert "INSERT INTO records" in told
    assert secret not in told
