"""The record locked, gone, back, replaced: commands wait or say so; the gateway tells the truth and recovers without a restart."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from support.doubles import MemoryTrainer
from support.faults import Desk, Ending, adapt_here, ending_of, opened
from support.processes import ASK, CHAT, Live, live, wait_until
from support.serving import House
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import RunState, StepState
from tailorbird.ledger import database

#: Takes the write lock of a file for so many seconds, and says when it has it.
HOLD = """
import sqlite3, sys, time
record = sqlite3.connect(sys.argv[1], isolation_level=None)
record.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def locked(file: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the write lock of ``file``."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(file), str(seconds)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_a_command_waits_for_a_locked_record_and_succeeds(desk: Desk, undisturbed: Ending) -> None:
    with locked(desk.workspace / "tailorbird.db", 2.0) as holder:
        call = desk.adapt()
        assert call.run() == 0, call.said
        assert holder.poll() is not None, "it has waited until the lock was free"
    assert ending_of(desk) == undisturbed


def test_who_only_reads_does_not_wait(desk: Desk) -> None:
    with locked(desk.workspace / "tailorbird.db", 60) as holder:
        call = desk.call("runs", "list")
        assert call.run() == 0, call.said
        assert holder.poll() is None


def test_a_record_that_stays_locked_is_told_and_the_command_can_be_repeated(
    desk: Desk, undisturbed: Ending, twins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with locked(desk.workspace / "tailorbird.db", 60):
        with pytest.raises(Unavailable) as caught:
            adapt_here(desk)
    assert caught.value.error_code == "database_busy"
    adapt_here(desk)
    assert ending_of(desk) == undisturbed


def record_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("tailorbird.db*"))


def ask(served: Live) -> httpx.Response:
    return httpx.post(served.url + CHAT, json=ASK, headers=served.headers, timeout=30)


def ready(served: Live) -> bool:
    return httpx.get(f"{served.url}/readyz", timeout=10).status_code == 200


def move(files: list[Path], folder: Path) -> None:
    for file in files:
        file.rename(folder / file.name)


def test_a_record_that_is_gone_and_comes_back(house: House, tmp_path: Path) -> None:
    """Moved away while the gateway serves: nothing is answered that would leave no row; moved back, all is well again."""
    house.point("routing", house.release())
    away = tmp_path / "away"
    away.mkdir()
    with live(house) as served:
        answered = [ask(served).json()["id"]]
        move(record_files(house.folder), away)
        refused = ask(served)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] in ("record_unavailable", "database_unreachable")
        assert refused.headers["retry-after"]
        wait_until(lambda: not ready(served), 30)
        assert record_files(house.folder) == []
        move(record_files(away), house.folder)
        wait_until(lambda: ready(served), 30)
        answered.append(ask(served).json()["id"])
    assert {row.id for row in house.rows()} == set(answered)


def test_a_record_that_is_replaced_while_it_is_served(house: House, tmp_path: Path) -> None:
    """As somebody does who puts a copy in its place: from then on that file is read, and written; no row goes where nobody finds it."""
    old, new = house.release(1), house.release(2)
    house.point("routing", old)
    copied = tmp_path / "copied"
    copied.mkdir()
    with live(house) as served:
        first = ask(served).json()["id"]
        with locked(house.folder / "tailorbird.db", 60):
            for file in record_files(house.folder):
                shutil.copy(file, copied / file.name)
        for file in record_files(house.folder):
            file.unlink()
        move(record_files(copied), house.folder)
        second = ask(served)
        assert second.status_code == 200
        fresh = House.reopen(house.folder)
        assert {row.id for row in fresh.rows()} == {first, second.json()["id"]}
        fresh.point("routing", new)
        wait_until(lambda: ask(served).headers["x-tailorbird-release"] == new, 10)
    fresh.ledger.close()


def test_a_record_that_is_away_for_a_moment_fails_no_step(
    desk: Desk, undisturbed: Ending, twins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that meets it is given back, not failed: nothing is wrong with the step."""
    away = Unavailable("planted", "none", code="database_unreachable")

    def lost(*_: object) -> None:
        raise away

    with monkeypatch.context() as broken:
        broken.setattr(MemoryTrainer, "train", lost)
        with pytest.raises(Unavailable):
            adapt_here(desk)
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        assert (run.state, work.steps.of(run.id)[-1].state) == (RunState.ACTIVE, StepState.READY)
    adapt_here(desk)
    assert ending_of(desk) == undisturbed
