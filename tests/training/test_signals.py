"""SIGINT and SIGTERM: what was learned is saved, the process leaves cleanly, and the next one ends in the same bytes."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.training_samples import MakeJob, TrainWhole
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainedModel
from tailorbird.training import open_trainer

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
    assert 0 < seen[0].step <= reached + 1, "saved on leaving, unless in the middle of an update or an evaluation"
    assert sha256(resumed) == sha256(train_whole(make_job(**changes)))
