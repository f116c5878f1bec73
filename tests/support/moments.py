"""Moments at which a process can be killed, and the kill itself.

In: what to die of. Out: a process that ends itself, by a signal that nothing can catch, when it passes that moment. Moments are passed on
the main thread only, so the same story passes the same ones in the same order. Must not know: what the process is for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tailorbird.domain.run import Step
from tailorbird.ledger import blobs
from tailorbird.ledger.sqlite import SqliteFile
from tailorbird.usecases.runs import context, engine


@dataclass(frozen=True)
class Kill:
    """Dies of ``signal`` when a moment whose name begins with ``moment`` is passed for the ``nth`` time, or ``after`` so many seconds."""

    moment: str = ""
    nth: int = 1
    after: float = 0.0
    signal: int = signal.SIGKILL

    @property
    def name(self) -> str:
        """What the point is called."""
        return f"after {self.after} s" if self.after else f"{self.moment} ({self.nth})"


#: How the boundary of a step is named, from both sides and from the inside of its transaction.
BOUNDARIES = ("before the commit of ", "in the commit of ", "after the commit of ")


class Passing:
    """Is told of every moment. ``log`` gets a line for each."""

    def __init__(self, kill: Kill | None, log: Path | None = None) -> None:
        self._kill = kill
        self._log = log
        self._left = kill.nth if kill and not kill.after else 0
        if kill and kill.after:
            timer = threading.Timer(kill.after, os.kill, (os.getpid(), kill.signal))
            timer.daemon = True
            timer.start()

    def __call__(self, name: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if self._log:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(name + "\n")
        if self._kill and self._left and name.startswith(self._kill.moment):
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), self._kill.signal)


def watch(passing: Passing) -> None:
    """Has this process tell ``passing`` of its moments, from now on and until it ends."""
    _watch_commits(passing)
    _watch_transactions(passing)
    _watch_blobs(passing)
    _watch_training(passing)


def _watch_commits(passing: Passing) -> None:
    commit, record = engine._commit, engine.record

    def watched_commit(stage: Any, step: Step, *rest: Any) -> None:
        passing(f"before the commit of {step.name}")
        commit(stage, step, *rest)
        passing(f"after the commit of {step.name}")

    def watched_record(*arguments: Any) -> None:
        record(*arguments)
        if arguments[1] == "step.done":
            passing(f"in the commit of {arguments[-1]['step']}")

    _put(engine, "_commit", watched_commit)
    _put(engine, "record", watched_record)


def _watch_transactions(passing: Passing) -> None:
    writing = SqliteFile.writing

    @contextmanager
    def watched(self: SqliteFile, tenant: str | None = None, *, durable: bool = True) -> Iterator[Connection]:
        with writing(self, tenant, durable=durable) as connection:
            yield connection
            passing("a transaction is written")
        passing("a transaction is committed")

    _put(SqliteFile, "writing", watched)


def _watch_blobs(passing: Passing) -> None:
    _put(blobs, "_copy", _then(blobs._copy, passing, "a blob is written"))
    _put(blobs, "flush_path", _then(blobs.flush_path, passing, "a blob is in place"))


def _watch_training(passing: Passing) -> None:
    """Steps of a training, and its checkpoints where the real trainer is at work."""
    _put(context.WatchedProgress, "_training", _then(context.WatchedProgress._training, passing, "a step of training"))
    checkpoints = sys.modules.get("tailorbird.training.checkpoints")
    if checkpoints is not None:
        _put(checkpoints, "flush_path", _then(checkpoints.flush_path, passing, "a checkpoint is flushed"))


def _then(function: Callable[..., Any], passing: Passing, name: str) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        result = function(*arguments)
        passing(name)
        return result

    return watched


def _put(place: Any, name: str, value: Any) -> None:
    setattr(place, name, value)
