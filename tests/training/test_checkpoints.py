"""A run that is stopped, killed or spoiled ends in the very bytes of one that is not."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.training_samples import MakeJob, TrainWhole
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.methods import METHODS

WEIGHTS = {"lora": "adapter_model.safetensors", "qlora": "adapter_model.safetensors", "full": "model.safetensors"}


def sha256(trained: TrainedModel, method: str = "lora") -> str:
    return hashlib.sha256((trained.folder / WEIGHTS[method]).read_bytes()).hexdigest()


def quiet(line: TrainingProgress) -> None:
    """Sees a step and says nothing."""


def train_until_killed(job: TrainingJob, step: int) -> None:
    """Trains in a process of its own that is killed as soon as it has said ``step``."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "support" / "train_in_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(job.model_dump_json())
        child.stdin.close()
        for said in child.stdout:
            if int(said) == step:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "waits",
    [
        True,
    ],
)
def test_killed_at_a_random_step_it_ends_in_the_same_bytes(waits: bool, make_job: MakeJob, train_whole: TrainWhole) -> None:
    """Also while a run that learns nothing yet keeps its rate up."""
    changes = {"learning_rate": 1e-7, "waiting_epochs": 2} if waits else {}
    whole = train_whole(make_job(**changes))
    step = random.randrange(1, whole.report.steps)
    job = make_job(workspace="killed", **changes)
    train_until_killed(job, step)
    seen: list[TrainingProgress] = []
    resumed = open_trainer().train(job, seen.append)
    assert 1 <= seen[0].step <= step + 1, "it went on, and did not start again"
    assert sha256(resumed) == sha256(whole), f"killed at step {step}"
    assert [line.loss for line in resumed.report.history] == [line.loss for line in whole.report.history]
    assert (resumed.report.best_step, resumed.report.tokens) == (whole.report.best_step, whole.report.tokens)
    assert resumed.report.plateau == whole.report.plateau


def interrupt_at(step: int) -> ReportProgress:
    def report(line: TrainingProgress) -> None:
        if line.step == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("method", sorted(METHODS))
def test_interrupted_at_any_step_it_saves_and_goes_on(method: str, make_job: MakeJob, train_whole: TrainWhole) -> None:
    whole = train_whole(make_job(method))
    job = make_job(method, workspace="stopped")
    for step in range(0, whole.report.steps + 1, 2 if method == "lora" else 5):
        with pytest.raises(KeyboardInterrupt):
            open_trainer().train(job, interrupt_at(step))
        assert (job.workspace / "checkpoints" / f"step-{step:08d}" / "state.json").is_file()
    assert sha256(open_trainer().train(job, quiet), method) == sha256(whole, method)


def test_a_finished_job_is_not_trained_again(make_job: MakeJob) -> None:
    job, seen = make_job(), []
    first = open_trainer().train(job, quiet)
    digest = sha256(first)
    again = open_trainer().train(job, seen.append)
    assert seen == []
    assert sha256(again) == digest
    assert again.report.history == first.report.history


@pytest.mark.parametrize(
    "spoiled",
    [
        "tensors.safetensors",
    ],
)
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(spoiled: str, make_job: MakeJob, train_whole: TrainWhole) -> None:
    whole = train_whole(make_job())
    job = make_job(workspace="spoiled")
    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, interrupt_at(7))
    newest, before = sorted((job.workspace / "checkpoints").glob("step-*"), reverse=True)
    path = newest / spoiled
    path.write_bytes(path.read_bytes()[:-20])
    seen: list[TrainingProgress] = []
    resumed = open_trainer().train(job, seen.append)
    assert seen[0].step == int(before.name.removeprefix("step-")) + 1
    assert sha256(resumed) == sha256(whole)


def test_a_checkpoint_of_another_job_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(make_job(), interrupt_at(3))
    for change in ({"seed": 12}, {"learning_rate": 1e-3}, {"train": make_job().train[1:]}, {"snapshot": "sha256:" + "1" * 64}):
        with pytest.raises(Conflict) as caught:
            open_trainer().train(make_job(**change), quiet)
        assert caught.value.error_code == "checkpoint_foreign"


def test_best_weights_that_changed_on_the_disk_are_not_taken(make_job: MakeJob, train_whole: TrainWhole) -> None:
    whole = train_whole(make_job())
    job = make_job(workspace="spoiled")

    def spoil(line: TrainingProgress) -> None:
        if line.step == line.steps:
            for path in (job.workspace / "checkpoints").glob("best-*"):
                path.write_bytes(b"")

    with pytest.raises(Conflict) as caught:
        open_trainer().train(job, spoil)
    assert caught.value.error_code == "checkpoint_foreign"
    assert sha256(open_trainer().train(job, quiet)) == sha256(whole)


def test_a_workspace_that_cannot_be_written_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        open_trainer().train(make_job(workspace="file"), quiet)
    assert caught.value.error_code == "workspace_unwritable"
