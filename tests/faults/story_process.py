"""The command line in a process of its own, with twins for all that needs torch; it may be killed at a moment of one's choice.

In: arguments of ``tailorbird``, what to die of. Out: an exit status. Processes are forked from one that has everything imported, so that a
story can be killed dozens of times in a test.
"""

from __future__ import annotations

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

from moments import Kill, Passing, watch

from tailorbird.app import worker
from tailorbird.integrations.memory import MemoryEngine, MemoryModelReader, MemoryTrainer
from tailorbird.lifecycle import working

#: How long a lease lasts in these processes, so that the lease of a dead one is soon over.
LEASE_SECONDS = 0.3

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("tailorbird.cli.adapt", "tailorbird.cli.worker", "tailorbird.ledger", "tailorbird.lifecycle.control"),
        *("sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.pipeline", "alembic.command", "alembic.runtime.migration"),
    ]
)


@dataclass(frozen=True)
class Call:
    """One call of ``tailorbird``. Its output goes to ``log``; the moments that it passes, to ``moments``."""

    arguments: tuple[str, ...]
    log: Path
    kill: Kill | None = None
    moments: Path | None = None

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
    from tailorbird.cli.main import main

    sys.exit(main(call.arguments))


def use_twins() -> None:
    """What wiring loads by name is a twin from now on; neither torch nor the real rooms are imported."""
    sys.modules.update(TWINS)


#: What stands in for the rooms that need torch.
TWINS: dict[str, Any] = {
    "tailorbird.training": SimpleNamespace(open_trainer=MemoryTrainer),
    "tailorbird.inference": SimpleNamespace(open_engine=MemoryEngine, open_model_reader=MemoryModelReader),
}

#: Short leases and short pauses, by place and name.
HASTE: tuple[tuple[Any, str, Any], ...] = (
    (working, "LEASE", timedelta(seconds=LEASE_SECONDS)),
    (working, "HEARTBEAT_SECONDS", LEASE_SECONDS / 4),
    (working, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: time.sleep(0.05))),
    (worker, "POLL_SECONDS", 0.05),
    (worker, "REST_SECONDS", 0.5),
)


def hurry() -> None:
    """Short leases and short pauses from now on."""
    for place, name, value in HASTE:
        setattr(place, name, value)
