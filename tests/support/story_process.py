"""The command line in a process of its own, with twins for all that needs torch; it may be killed at a moment of one's choice.

In: arguments of ``tailorbird``, what to die of. Out: an exit status. Processes are forked from one that has everything imported, so that a
story can be killed dozens of times in a test.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.doubles import MemoryEngine, MemoryModelReader, MemoryTrainer
from support.moments import Kill, Passing, watch
from tailorbird.ledger import sqlite
from tailorbird.processes import worker
from tailorbird.usecases.runs import engine

#: How long a lease lasts in these processes, so that the lease of a dead one is soon over.
LEASE_SECONDS = 0.15

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("tailorbird.cli.adapt", "tailorbird.cli.serve", "tailorbird.ledger", "tailorbird.usecases.registry"),
        *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.pipeline"),
    ]
)


@dataclass(frozen=True)
class Call:
    """One call of ``tailorbird``. Its output goes to ``log``; the moments that it passes, to ``moments``.

    Below the folder ``read_only`` nothing may be written.
    """

    arguments: tuple[str, ...]
    log: Path
    kill: Kill | None = None
    moments: Path | None = None
    read_only: Path | None = None

    def start(self) -> BaseProcess:
        """The running process."""
        process = _FORKS.Process(target=_run, args=(self,))
        process.start()
        return process

    def run(self, seconds: float = 60) -> int:
        """The exit status; minus the signal's number when it was killed."""
        process = self.start()
        process.join(seconds)
        assert process.exitcode is not None, f"tailorbird {' '.join(self.arguments)} did not end"
        return process.exitcode

    @property
    def said(self) -> str:
        """All that processes have written to ``log``."""
        return self.log.read_text(encoding="utf-8")


def _run(call: Call) -> None:
    output = os.open(call.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    use_twins()
    hurry()
    watch(Passing(call.kill, call.moments))
    if call.read_only:
        refuse_writes(call.read_only)
    from tailorbird.cli.main import main

    sys.exit(main(call.arguments))


def use_twins() -> None:
    """What wiring loads by name is a twin from now on; neither torch nor the real rooms are imported."""
    sys.modules.update(TWINS)


def refuse_writes(folder: Path) -> None:
    """Has ``folder`` behave as on a disk that is mounted read-only, for every user; so it stays, for there is no way back."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & writing):
            for place in arguments:
                if isinstance(place, str | Path) and Path(place).is_relative_to(folder):
                    raise OSError(errno.EROFS, "Read-only file system", str(place))

    sys.addaudithook(refuse)
    opening = sqlite._opening
    if any(folder.glob("*.db")):  # SQLite writes past Python
        _put(sqlite, "_opening", lambda file: opening(file).update_query_dict({"mode": "ro"}))


#: Events of the interpreter's audit that change what their arguments name.
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod", "os.utime", "os.truncate", "os.link", "shutil.rmtree")


def _put(place: Any, name: str, value: Any) -> None:
    setattr(place, name, value)


#: What stands in for the rooms that need torch.
TWINS: dict[str, Any] = {
    "tailorbird.training": SimpleNamespace(open_trainer=lambda *_settings: MemoryTrainer()),
    "tailorbird.inference": SimpleNamespace(open_engine=lambda *_settings, **_more: MemoryEngine(), open_model_reader=MemoryModelReader),
}

#: Short leases and short pauses, by place and name.
HASTE: tuple[tuple[Any, str, Any], ...] = (
    (engine, "LEASE", timedelta(seconds=LEASE_SECONDS)),
    (engine, "HEARTBEAT_SECONDS", LEASE_SECONDS / 4),
    (engine, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: time.sleep(0.05))),
    (worker, "POLL_SECONDS", 0.05),
    (worker, "REST_SECONDS", 0.5),
)


def hurry() -> None:
    """Short leases and short pauses from now on; leases of TAILORBIRD_TEST_LEASE seconds, where that is set."""
    for place, name, value in HASTE:
        setattr(place, name, value)
    if lease := float(os.environ.get("TAILORBIRD_TEST_LEASE", "0")):
        _put(engine, "LEASE", timedelta(seconds=lease))
        _put(engine, "HEARTBEAT_SECONDS", lease / 4)
