"""Launcher of several processes on this machine that train one job together.

Each member is a process of its own with the variables that ``torchrun`` would set. Members say one JSON object a line; the one that leads
waits after each line of progress for ``go`` or ``end``, so that all of them end at the same step.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from tailorbird.domain.errors import Unavailable, error_named
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.system.files import private_folder
from tailorbird.training.process_group import Sharding

#: Seconds that members have to save and leave once the run was ended by what hears of its progress, and once somebody interrupted it: a
#: member that is killed goes on from its last checkpoint.
_PATIENCE, _INTERRUPTED = 120.0, 1.0


def train_together(job: TrainingJob, report: ReportProgress, processes: int, sharding: Sharding = "auto") -> TrainedModel:
    """As ``Trainer.train``, in ``processes`` processes. What ``report`` raises ends them all, and is passed on."""
    with _members(job, processes, sharding) as members:
        return _MemberDialogue(members, report).held()


@contextmanager
def _members(job: TrainingJob, processes: int, sharding: Sharding) -> Iterator[list[subprocess.Popen[str]]]:
    private_folder(job.workspace)
    team = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    members = list[subprocess.Popen[str]]()
    try:
        for rank in range(processes):
            with (job.workspace / f"member-{rank}.log").open("w", encoding="utf-8") as log:
                members.append(_member(rank, team, sharding, log))
            _write(members[-1], job.model_dump_json())
        yield members
    finally:
        for member in members:
            member.kill()
            member.wait()


def _member(rank: int, team: dict[str, object], sharding: Sharding, log: IO[str]) -> subprocess.Popen[str]:
    place = team | {"RANK": rank, "LOCAL_RANK": rank}
    return subprocess.Popen(
        [sys.executable, "-m", "tailorbird.training.worker_main", sharding],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=os.environ | {name: str(value) for name, value in place.items()},
        text=True,
        # An interruption from the keyboard comes to this process, which ends the members in good order.
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(member: subprocess.Popen[str], line: str) -> None:
    assert member.stdin is not None
    member.stdin.write(line + "\n")
    member.stdin.flush()


class _MemberDialogue:
    """What members say, from a thread each, in one queue; None from a member that has ended."""

    def __init__(self, members: list[subprocess.Popen[str]], report: ReportProgress) -> None:
        self._members = members
        self._report = report
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._ended: BaseException | None = None
        for member in members:
            threading.Thread(target=self._listen, args=(member,), daemon=True).start()

    def _listen(self, member: subprocess.Popen[str]) -> None:
        assert member.stdout is not None
        for line in member.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def held(self) -> TrainedModel:
        """To its end. Raises what ended it: the report's own, a member's error, or Unavailable when a member was killed."""
        while True:
            said = self._next()
            if said is None or said["event"] == "ended":
                raise self._ended or _lost()
            if said["event"] == "error":
                raise self._ended or error_named(said["kind"], said["message"], said["hint"], said["code"])
            if said["event"] == "done":
                return TrainedModel.model_validate(said["trained"])
            self._answer(TrainingProgress.model_validate(said["line"]))

    def _next(self) -> dict[str, Any] | None:
        """What is said next. An interruption is remembered, and told with the next answer; a second one waits for nobody."""
        while True:
            try:
                return self._said.get(timeout=self._patience())
            except queue.Empty:
                return None
            except KeyboardInterrupt as error:
                if self._ended is not None:
                    return None
                self._ended = error

    def _patience(self) -> float | None:
        if self._ended is None:
            return None
        return _INTERRUPTED if isinstance(self._ended, KeyboardInterrupt) else _PATIENCE

    def _answer(self, line: TrainingProgress) -> None:
        try:
            self._report(line)
        except BaseException as error:  # noqa: BLE001 - raised once the members have ended
            self._ended = self._ended or error
        _write(self._members[0], "end" if self._ended else "go")


def _lost() -> Unavailable:
    return Unavailable(
        "a process of the team that trains was ended from outside",
        "see member-*.log in the workspace (memory is the usual reason), then start again: the run goes on from its checkpoint",
        code="member_lost",
    )
