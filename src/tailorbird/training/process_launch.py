"""Launcher of processes that train one job together on this machine.

Each member is a process of its own, which is told its place and the job. Members say one JSON object a line; the one that leads waits after
each line of progress for ``go`` or ``end``, so that all of them end at the same step.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any
from uuid import uuid4

from tailorbird.domain.errors import Unavailable, error_named
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.system.files import private_folder
from tailorbird.training.process_group import Sharding, TeamPlace

#: Seconds that members have to save and leave once the run was ended by what hears of its progress, and once somebody interrupted it: a
#: member that is killed goes on from its last checkpoint.
_PATIENCE, _INTERRUPTED = 120.0, 1.0


def train_together(job: TrainingJob, report: ReportProgress, processes: int, sharding: Sharding = "auto") -> TrainedModel:
    """As ``Trainer.train``, in ``processes`` processes. What ``report`` raises ends them all, and is passed on."""
    meeting = private_folder(job.workspace) / f"meeting-{uuid4().hex}"
    lead = TeamPlace(rank=0, size=processes, meeting=meeting, key=secrets.token_hex(32))
    places = [lead.model_copy(update={"rank": rank}) for rank in range(processes)]
    try:
        with _members(job, places, sharding) as members:
            return _MemberDialogue(members, report).held()
    finally:
        meeting.unlink(missing_ok=True)


@contextmanager
def _members(job: TrainingJob, places: Sequence[TeamPlace], sharding: Sharding) -> Iterator[list[subprocess.Popen[str]]]:
    private_folder(job.workspace)
    members = list[subprocess.Popen[str]]()
    try:
        for place in places:
            with (job.workspace / f"member-{place.rank}.log").open("w", encoding="utf-8") as log:
                members.append(_member(sharding, log))
            _write(members[-1], place.model_dump_json())
            _write(members[-1], job.model_dump_json())
        yield members
    finally:
        for member in members:
            member.kill()
            member.wait()


def _member(sharding: Sharding, log: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # -P: a file of the current folder (a user's random.py) is no module of ours.
        [sys.executable, "-P", "-m", "tailorbird.training.worker_main", sharding, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        # An interruption from the keyboard comes to this process, which ends the members in good order.
        start_new_session=True,
    )


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
            if said["event"] == "progress":
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
        with suppress(BrokenPipeError):  # it is gone, which is heard next
            _write(self._members[0], "end" if self._ended else "go")


def _lost() -> Unavailable:
    return Unavailable(
        "a process of the team that trains was ended from outside",
        "see member-*.log in the workspace (memory is the usual reason), then start again: the run goes on from its checkpoint",
        code="member_lost",
    )
