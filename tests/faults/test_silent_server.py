"""A PostgreSQL server that answers no more, by waiting for a standby that is gone or because it is frozen: an error in time, then on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from support.processes import ASK, CHAT, gateway_process, wait_ready
from support.serving import House
from support.standby import primary_and_standby
from tailorbird.domain.errors import Unavailable
from tailorbird.ledger import postgresql

pytestmark = pytest.mark.slow


@contextmanager
def unanswered_within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        yield
    assert caught.value.error_code in {"database_unanswered", "database_unreachable"}  # the latter where a connection is made anew
    assert time.monotonic() - began < seconds


def test_writers_and_readers_are_told_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 2)
    with primary_and_standby() as pair:
        monkeypatch.setenv("TEST_DATABASE", pair.url)
        house = House(tmp_path, ledger_kind=pair.url)
        release = house.release()
        house.point("routing", release)
        pair.kill_standby()
        with unanswered_within(30):
            house.point("routing", release)
        with unanswered_within(30), house.ledger.work("acme", durable=False) as work:
            work.usage.add(())
        pair.want_no_standby()
        version = house.point("routing", release).version
        assert version == 3  # the one that nobody confirmed is there: the primary had committed it

        with pair.frozen_primary():
            for _ in range(3):  # more than once: connections that were given up are not used again
                with unanswered_within(30), house.ledger.work("acme", write=False) as work:
                    work.aliases.get("routing")
        with house.ledger.work("acme", write=False) as work:
            assert work.aliases.get("routing").version == 3
        assert house.point("routing", release).version == 4
        house.ledger.close()


def test_a_gateway_answers_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose row nobody confirms is refused in time, and the gateway ends when it is told to."""
    with primary_and_standby() as pair:
        monkeypatch.setenv("TEST_DATABASE", pair.url)
        house = House(tmp_path, ledger_kind=pair.url)
        house.point("routing", house.release())
        _, secret = house.key()
        with gateway_process(tmp_path) as running:
            wait_ready(running.url, running.process)

            def asked() -> httpx.Response:
                return httpx.post(running.url + CHAT, json=ASK, headers={"authorization": f"Bearer {secret}"}, timeout=60)

            assert asked().status_code == 200
            pair.kill_standby()
            refused = asked()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "record_unavailable")
            pair.want_no_standby()
            answered = asked()
            assert answered.status_code == 200
            pair.want_a_standby()
            assert asked().status_code == 503
            running.process.send_signal(SIGTERM)
            assert running.process.wait(60) == 0
        pair.want_no_standby()
        assert answered.json()["id"] in {row.id for row in house.rows()}
        house.ledger.close()
