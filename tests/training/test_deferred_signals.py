"""SIGINT and SIGTERM: what was learned is saved, the process leaves cleanly, and the next one ends in the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from support.training_samples import MakeJob, TrainWhole
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainedModel
from tailorbird.training import open_trainer
from tailorbird.training.deferred_signals import unbroken

#: A process that trains as ``tailorbird adapt`` does: no checkpoint is due while it runs, so what is there in the end was saved on leaving.
PROCESS = """
import sys
import torch
from tailorbird.cli.adapt import _end_cleanly_on_sigterm
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer

torch.set_num_threads(1)
_end_cleanly_on_sigterm()
try:
    open_trainer().train(TrainingJob.model_validate_json(sys.stdin.read()), lambda line: print(line.step, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(autouse=True)
def _as_from_a_terminal() -> Iterator[None]:
    """A shell that starts the tests in the background has SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def sha256(trained: TrainedModel) -> str:
    return hashlib.sha256((trained.folder / "adapter_model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_saves_and_leaves_cleanly(number: signal.Signals, make_job: MakeJob, train_whole: TrainWhole) -> None:
    changes = {"epochs": 8, "evaluations_per_epoch": 1}
    job = make_job(workspace="ended", **changes)
    child = subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdin.write(job.model_dump_json())
        child.stdin.close()
        reached = 0
        for said in child.stdout:
            reached = int(said)
            if reached == 9:
                child.send_signal(number)
        complaint = child.stderr.read()
    assert (child.returncode, complaint) == (130, "")
    seen: list[TrainingProgress] = []
    resumed = open_trainer().train(job, seen.append)
    assert seen[0].step == reached + 1
    assert sha256(resumed) == sha256(train_whole(make_job(**changes)))


def interrupted(times: int, done: list[int]) -> None:
    with unbroken():
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        done.append(times)


def test_a_signal_waits_for_the_end_of_the_block_and_a_second_one_does_not() -> None:
    done: list[int] = []
    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(times, done)
    assert done == [1]


def test_another_thread_holds_nothing_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def look() -> None:
        with unbroken():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_fault_within_the_block_passes_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="fault"):
        with unbroken():
            raise ValueError("fault")
    assert signal.getsignal(signal.SIGTERM) is before


LEFT = """
import os, signal, threading, torch
from tailorbird.training.deferred_signals import beside

square = torch.ones(2000, 2000)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
beside(lambda: [torch.mm(square, square) for _ in range(6)])
"""


def test_what_is_left_to_itself_does_not_abort_the_process() -> None:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=False, env=paths)
    assert "KeyboardInterrupt" in done.stderr
    assert "terminate called" not in done.stderr
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT), done.stderr
