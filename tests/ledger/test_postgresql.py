"""What is special about a database that others can stop, fill up, lock or lose: every such fault has its error, and none is for ever."""

from __future__ import annotations

import traceback
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import make_url, text

import support.ledger_samples as sample
from tailorbird.domain.errors import Conflict, TailorbirdError, Unavailable
from tailorbird.ledger import open_ledger, postgresql
from tailorbird.ledger.database import open_database

#: SQLSTATEs that a server may answer with, and the code of our error.
STATES = {
    "25006": "database_read_only",
    "40001": "database_busy",
    "42501": "database_forbidden",
    "42P01": "database_schema",
    "53100": "disk_full",
    "57P01": "database_unreachable",
    "XX001": "database_corrupt",
    "23505": "conflict",
    "42601": "database",
}


@pytest.fixture
def pg_url(server, tmp_path):
    return server.copy()


@pytest.fixture
def pg(pg_url):
    with closing(open_ledger(pg_url)) as ledger:
        yield ledger


@pytest.mark.parametrize("state", STATES)
def test_what_the_server_answers_gets_its_error(pg_url, state):
    with closing(open_database(pg_url)) as database:
        with pytest.raises(TailorbirdError) as refused, database.writing() as connection:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION '%', 'the words ' || 'of a row' USING ERRCODE = '{state}'; END $$"))
        with database.reading() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    assert refused.value.error_code == STATES[state]
    assert "the words of a row" not in "".join(traceback.format_exception(refused.value))


def test_the_values_of_a_row_stay_out_of_errors_that_quote_them(pg):
    row = sample.request("acme").model_copy(update={"prediction": "the words of a row", "id": "the id of a row"})
    with pg.work("acme") as work:
        work.requests.add([row])
    with pytest.raises(Conflict) as refused, pg.work("acme") as work:
        work.requests.add([row])
    told = "".join(traceback.format_exception(refused.value))
    assert "INSERT INTO requests" in told
    assert "of a row" not in told


@pytest.mark.parametrize(
    "host",
    [
        "localhost:1",
    ],
)
def test_a_server_that_is_not_there(host):
    with closing(open_ledger(f"postgresql://u:geheim@{host}/ledger")) as ledger:
        for call in (ledger.migrate, lambda: ledger.system(write=False).__enter__()):
            with pytest.raises(Unavailable) as refused:
                call()
            assert refused.value.error_code == "database_unreachable"
            assert host.partition(":")[0] in refused.value.message
            assert "geheim" not in "".join(traceback.format_exception(refused.value))


def test_a_server_that_went_away_and_came_back_is_used_again(server, pg):
    with pg.work("acme") as work:
        work.events.append([sample.event("acme")])
    server.stop()
    try:
        for write in (True, False):
            with pytest.raises(Unavailable) as refused, pg.work("acme", write=write):
                pass
            assert refused.value.error_code == "database_unreachable"
    finally:
        server.start()
    with pg.work("acme") as work:
        assert work.events.append([sample.event("acme", 2)]) == 2


def test_a_connection_that_breaks_inside_a_transaction_takes_it_back(pg, pg_url):
    def break_off() -> None:
        with pg.work("acme") as work:
            work.events.append([sample.event("acme")])
            terminate_all_others(pg_url)
            work.events.append([sample.event("acme")])

    with pytest.raises(Unavailable) as refused:
        break_off()
    assert refused.value.error_code == "database_unreachable"
    with pg.work("acme") as work:
        assert work.events.size() == 0


def test_a_writer_that_fell_silent_gives_the_lock_back(monkeypatch, pg, pg_url):
    monkeypatch.setattr(postgresql, "SILENT_SECONDS", 1)

    def fall_silent() -> None:
        with closing(open_ledger(pg_url)) as frozen, frozen.work("acme") as work:
            with pg.work("acme") as other:  # waits for the lock until the server takes it from the silent one
                other.events.append([sample.event("acme")])
            work.events.append([sample.event("acme")])

    with pytest.raises(Unavailable) as refused:
        fall_silent()
    assert refused.value.error_code == "database_unreachable"
    with pg.work("acme", write=False) as work:
        assert work.events.size() == 1


def test_a_wait_for_the_lock_is_told_as_busy(monkeypatch, pg, pg_url):
    monkeypatch.setattr("tailorbird.ledger.database.BUSY_SECONDS", 2.0)
    with closing(open_ledger(pg_url)) as other, pg.work("acme"):
        for durable in (True, False):
            with pytest.raises(Unavailable) as refused, other.work("acme", durable=durable):
                pass
            assert (refused.value.error_code, refused.value.retry_after) == ("database_busy", 5.0)


def terminate_all_others(url: str) -> None:
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def connected(url: str) -> psycopg.Connection:
    parsed = make_url(url)
    return psycopg.connect(host=str(parsed.query["host"]), user=parsed.username, dbname=parsed.database, autocommit=True)
