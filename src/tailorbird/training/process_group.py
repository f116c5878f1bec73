"""Data-parallel process group of one training: each process holds all weights and computes its share of each batch.

Launcher of processes that train one job together on this machine.

Each member is a process of its own, which is told its place and the job. Members say one JSON object a line; the one that leads waits after
each line of progress for ``go`` or ``end``, so that all of them end at the same step.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
import torch
from pydantic import Field
from torch import distributed

from tailorbird.domain.errors import Unavailable, error_named
from tailorbird.domain.run import TrainingProgress
from tailorbird.domain.value import Value
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.system.files import private_folder
from tailorbird.training.devices import take_gpu

_Row = TypeVar("_Row")


class TeamPlace(Value):
    """A place among the processes of this machine that train one job together: ``rank`` (from 0, which leads, reports and writes) among
    ``size``. They meet by way of the file ``meeting``, which is not there yet and which strangers neither read nor write, and show one
    another that they know ``key`` (hexadecimal digits)."""

    rank: int = Field(ge=0)
    size: int = Field(ge=2)
    meeting: Path
    key: str = Field(repr=False)


class ProcessGroup:
    """This process among the ``size`` that have met (``meet``). All must call the same methods in the same order."""

    def __init__(self) -> None:
        met = distributed.is_initialized()
        self.size = distributed.get_world_size() if met else 1
        self.rank = distributed.get_rank() if met else 0

    @property
    def leads(self) -> bool:
        """True in the process that writes for all."""
        return self.rank == 0

    def share(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        """This process's rows, every ``size``-th one: lengths are spread evenly. May be none."""
        return rows[self.rank :: self.size]

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """``numbers`` summed over all processes, in place; to the same bits everywhere."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sums gradients over all processes, in one message; a process that had no row for a parameter adds zeros."""
        trained = list(parameters)
        if self.size == 1 or not trained:
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained])
        for parameter, gradient in zip(trained, torch.split(self.sum(flat), [p.numel() for p in trained]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def any(self, here: bool, device: torch.device) -> bool:
        """True when it is true in any process."""
        return bool(self.sum(torch.tensor(float(here), device=device)) > 0) if self.size > 1 else here


def meet(place: TeamPlace) -> None:
    """Meets the others; this process computes on the GPU of its rank where there are any. Raises Unavailable (``member_lost``) when one of
    them does not show that it knows the key.

    Addresses are exchanged in a file, so no port is open for it; each listens on loopback, for as long as it takes to connect.
    """
    placed = take_gpu(place.rank)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(
            name,
            next(str(name) for name, addresses in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in addresses)),
        )
    store = distributed.FileStore(str(place.meeting), place.size)  # type: ignore[attr-defined]
    distributed.init_process_group("nccl" if placed else "gloo", store=store, rank=place.rank, world_size=place.size)
    if not placed:
        # Each two show each other that they know the key, over the connection that they will use: whoever took somebody's
        # place while the members connected does not. Raises Unavailable (``member_lost``).
        for other in range(place.size):
            if other == place.rank:
                continue
            shown = torch.tensor(list(_proof(place.key, place.rank, other)), dtype=torch.uint8)
            seen = torch.empty_like(shown)
            sent = distributed.isend(shown, other)
            distributed.recv(seen, other)
            if sent is not None:
                sent.wait()
            if not hmac.compare_digest(bytes(seen.tolist()), _proof(place.key, other, place.rank)):
                raise Unavailable(
                    "a process that is none of the team tried to train with it",
                    "see who else uses this machine, then start again: the run goes on from its checkpoint",
                    code="member_lost",
                )


def _proof(key: str, shows: int, sees: int) -> bytes:
    return hmac.digest(bytes.fromhex(key), f"{shows} to {sees}".encode(), hashlib.sha256)


#: Seconds that members have to save and leave once the run was ended by what hears of its progress, and once somebody interrupted it: a
#: member that is killed goes on from its last checkpoint.
_PATIENCE, _INTERRUPTED = 120.0, 1.0


def train_together(job: TrainingJob, report: ReportProgress, processes: int) -> TrainedModel:
    """As ``Trainer.train``, in ``processes`` processes. What ``report`` raises ends them all, and is passed on."""
    meeting = private_folder(job.workspace) / f"meeting-{uuid4().hex}"
    lead = TeamPlace(rank=0, size=processes, meeting=meeting, key=secrets.token_hex(32))
    places = [lead.model_copy(update={"rank": rank}) for rank in range(processes)]
    try:
        with _members(job, places) as members:
            return _until_done(members, report)
    finally:
        meeting.unlink(missing_ok=True)


@contextmanager
def _members(job: TrainingJob, places: Sequence[TeamPlace]) -> Iterator[list[subprocess.Popen[str]]]:
    private_folder(job.workspace)
    members = list[subprocess.Popen[str]]()
    try:
        for place in places:
            with (job.workspace / f"member-{place.rank}.log").open("w", encoding="utf-8") as log:
                members.append(
                    subprocess.Popen(
                        # -P: a file of the current folder (a user's random.py) is no module of ours.
                        [sys.executable, "-P", "-m", "tailorbird.training.worker_main", str(os.getpid())],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        encoding="utf-8",
                        # An interruption from the keyboard comes to this process, which ends the members in good order.
                        start_new_session=True,
                    )
                )
            _write(members[-1], place.model_dump_json())
            _write(members[-1], job.model_dump_json())
        yield members
    finally:
        for member in members:
            member.kill()
            member.wait()


def _write(member: subprocess.Popen[str], line: str) -> None:
    assert member.stdin is not None
    member.stdin.write(line + "\n")
    member.stdin.flush()


def _until_done(members: Sequence[subprocess.Popen[str]], report: ReportProgress) -> TrainedModel:
    """What the members made. Raises what ended it: the report's own, a member's error, or Unavailable when a member was killed. An
    interruption is remembered, and told with the next answer; a second one waits for nobody."""
    # What members say, from a thread each; None from a member that has ended.
    news: queue.Queue[dict[str, Any] | None] = queue.Queue()
    ended: BaseException | None = None

    def listen(member: subprocess.Popen[str]) -> None:
        assert member.stdout is not None
        for line in member.stdout:
            news.put(json.loads(line))
        news.put(None)

    for member in members:
        threading.Thread(target=listen, args=(member,), daemon=True).start()
    while True:
        try:
            said = news.get(timeout=None if ended is None else _INTERRUPTED if isinstance(ended, KeyboardInterrupt) else _PATIENCE)
        except queue.Empty:
            said = None
        except KeyboardInterrupt as error:
            if ended is None:
                ended = error
                continue
            said = None
        if said is None or said["event"] == "ended":
            raise ended or Unavailable(
                "a process of the team that trains was ended from outside",
                "see member-*.log in the workspace (memory is the usual reason), then start again: the run goes on from its checkpoint",
                code="member_lost",
            )
        if said["event"] == "error":
            raise ended or error_named(said["kind"], said["message"], said["hint"], said["code"])
        if said["event"] == "done":
            return TrainedModel.model_validate(said["trained"])
        if said["event"] == "progress":
            try:
                report(TrainingProgress.model_validate(said["line"]))
            except BaseException as error:  # noqa: BLE001 - raised once the members have ended
                ended = ended or error
            with suppress(BrokenPipeError):  # it is gone, which is heard next
                _write(members[0], "end" if ended else "go")
