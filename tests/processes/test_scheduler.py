"""What is done beside the work: when it is due, whatever fails, and never in its way."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest

from support.processes import wait_until
from tailorbird.domain.errors import Unavailable
from tailorbird.processes import worker
from tailorbird.processes.worker import Schedule, run_schedules


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_LOOK_EVERY", 0.01)


def test_each_is_done_when_it_is_due_and_first_at_once() -> None:
    often, seldom, never = list[int](), list[int](), list[int]()
    schedules = [
        Schedule("often", timedelta(seconds=0.05), lambda: often.append(1)),
        Schedule("seldom", timedelta(hours=1), lambda: seldom.append(1)),
        Schedule("never", timedelta(0), lambda: never.append(1)),
    ]
    with run_schedules(schedules):
        wait_until(lambda: len(often) >= 3)
    assert (len(seldom), len(never)) == (1, 0)
    done = len(often)
    time.sleep(0.15)
    assert len(often) == done, "nothing is begun after the block"


def test_one_that_fails_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def refuse() -> None:
        raise Unavailable("the webhook was not told", "look whether it is up", code="webhook_undelivered")

    def defect() -> None:
        raise ValueError("a customer's words")

    every = timedelta(seconds=0.02)
    with caplog.at_level(logging.WARNING), run_schedules([Schedule("ship", every, refuse), Schedule("watch", every, defect)]):
        with run_schedules([Schedule("count", every, lambda: done.append(1))]):
            wait_until(lambda: len(done) >= 3 and len(caplog.records) >= 2)
    assert "ship: error[webhook_undelivered]: the webhook was not told; look whether it is up" in caplog.text
    assert "watch: a defect: ValueError at " in caplog.text
    assert "test_scheduler.py" in caplog.text
    assert "customer" not in caplog.text
