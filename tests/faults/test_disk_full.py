"""No space left, at every kind of write: the command says so and what to do, nothing is lost, and with space it goes on to the same end."""

from __future__ import annotations

import errno
import sqlite3
from collections import Counter
from pathlib import Path
from typing import IO

import pytest

from support.doubles import MemoryTrainer
from support.faults import Desk, Ending, adapt_here, ending_of, opened
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.run import StepState
from tailorbird.ledger import blobs, sqlite


class Disk:
    """Space for artifacts, which may run out; what was written until then stays written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._copy = blobs._copy
        monkeypatch.setattr(blobs, "_copy", self._write)

    def _write(self, source: IO[bytes], target: IO[bytes], name: str) -> None:
        if self.full:
            target.write(source.read(100))
            raise OSError(errno.ENOSPC, "No space left on device")
        self._copy(source, target, name)


def attempt(desk: Desk, disk: Disk | None = None, at: str = "") -> TailorbirdError | None:
    """What ``adapt`` ends with, if it is an error; ``disk`` is full from the step ``at`` on."""

    def tell(text: str) -> None:
        if disk is not None and text == f"step {at}":
            disk.full = True

    try:
        adapt_here(desk, tell)
    except TailorbirdError as error:
        return error
    return None


@pytest.mark.parametrize(
    "step",
    [
        "snapshot",
        "make lora r16",
        "conclude",
        *(pytest.param(step, marks=pytest.mark.slow) for step in ("plan", "measure prompt zero-shot", "test")),
    ],
)
def test_no_space_for_artifacts(desk: Desk, undisturbed: Ending, twins: None, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The snapshot, the base model, evidence, an adapter and the release's card."""
    disk = Disk(monkeypatch)
    error = attempt(desk, disk, step)
    assert isinstance(error, Unavailable)
    assert error.error_code == "disk_full"
    assert "free some space" in error.hint
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        last = work.steps.of(run.id)[-1]
    assert (last.name, last.state, last.error) == (step, StepState.FAILED, "disk_full")
    assert list((desk.workspace / "artifacts" / "unfinished").iterdir()) == []
    disk.full = False
    adapt_here(desk)
    ending = ending_of(desk)
    assert (ending.release, ending.steps) == (undisturbed.release, undisturbed.steps)
    assert ending.events == undisturbed.events + Counter({"step.failed": 1, "run.revived": 1})


def test_no_space_for_the_record(desk: Desk, undisturbed: Ending, twins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own limit of pages, raised by a few as often as it is met: the story is interrupted at many of its transactions."""
    room = pages(desk.workspace)
    begin = sqlite._begin

    def begin_within_room(connection: sqlite.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {room}")
        begin(connection)

    monkeypatch.setattr(sqlite, "_begin", begin_within_room)
    met: list[TailorbirdError] = []
    while (error := attempt(desk)) is not None:
        met.append(error)
        room += 8
    assert len(met) >= 5
    assert {error.error_code for error in met} == {"disk_full"}
    assert all("nothing that was acknowledged is lost" in error.hint for error in met)
    ending = ending_of(desk)
    assert (ending.release, ending.steps) == (undisturbed.release, undisturbed.steps)


def pages(workspace: Path) -> int:
    with sqlite3.connect(workspace / "tailorbird.db") as database:
        return int(database.execute("PRAGMA page_count").fetchone()[0])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EROFS, "Read-only file system"), "storage_forbidden"),
    ],
)
def test_a_fault_of_the_disk_in_mid_step_fails_the_step_cleanly(
    desk: Desk, undisturbed: Ending, twins: None, monkeypatch: pytest.MonkeyPatch, fault: OSError, code: str
) -> None:
    """Wherever a step writes beside the artifact store: the run's own folder, a cache of somebody's library."""

    def faulty(*_: object) -> None:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(MemoryTrainer, "train", faulty)
        error = attempt(desk)
    assert isinstance(error, Unavailable)
    assert error.error_code == code
    assert error.hint
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        assert work.steps.of(run.id)[-1].error == code
    adapt_here(desk)
    assert ending_of(desk).release == undisturbed.release
