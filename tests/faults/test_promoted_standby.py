"""The primary of two PostgreSQL servers dies and its standby is promoted: what was acknowledged is there, and all goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.processes import gateway_process, wait_ready, wait_until
from support.serving import House
from support.standby import primary_and_standby
from support.traffic import traffic
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import window_start
from tailorbird.domain.value import Digest


@contextmanager
def moved_again_and_again(house: House, release: Digest) -> Iterator[list[int]]:
    """Versions of the name ``moving`` that the record has acknowledged; what it did not answer for, it may have all the same."""
    acknowledged, over = list[int](), threading.Event()

    def move() -> None:
        while not over.is_set():
            try:
                acknowledged.append(house.point("moving", release).version)
            except TailorbirdError:
                over.wait(0.05)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield acknowledged
    finally:
        over.set()
        mover.join(60)


@pytest.mark.slow
def test_no_acknowledged_row_is_lost_and_processes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with primary_and_standby() as pair:
        monkeypatch.setenv("TEST_DATABASE", pair.url)
        house = House(tmp_path, ledger_kind=pair.url)
        release = house.release()
        house.point("routing", release)
        _, secret = house.key()
        with gateway_process(tmp_path) as running, moved_again_and_again(house, release) as acknowledged:
            wait_ready(running.url, running.process)
            with traffic(running.url, secret) as told:
                told.goes_on(40)
                pair.kill_primary()
                moved = len(acknowledged)
                pair.promote()
                told.goes_on(40)
                wait_until(lambda: len(acknowledged) > moved + 5)
            assert running.process.poll() is None
        rows = house.rows()
        assert set(told.answered) <= {row.id for row in rows}
        assert told.statuses.keys() <= {200, 503}
        with house.ledger.work("acme", write=False) as work:
            versions = [alias.version for alias in work.aliases.history("moving")]
            used = work.usage.used("month", window_start("month", house.clock.now()))
        assert used.requests == sum(row.release is not None for row in rows)
        assert moved > 0
        assert set(acknowledged) <= set(versions)
        assert versions == list(range(1, len(versions) + 1))
        house.ledger.close()
