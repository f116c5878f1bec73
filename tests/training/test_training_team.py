"""Two processes that train together learn what one learns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_samples import MakeJob

from tailorbird.domain.run import TrainingReport
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.team import Team


def train_in_team(job: TrainingJob, folder: Path) -> TrainingReport:
    path = folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    script = Path(__file__).parent / "train_in_team.py"
    said = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, text=True, timeout=240, check=False)
    assert said.returncode == 0, said.stderr
    return TrainingReport.model_validate_json(said.stdout)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_have_the_losses_of_one(method: str, make_job: MakeJob, tmp_path: Path) -> None:
    alone = open_trainer().train(make_job(method, workspace="alone"), lambda _: None)
    job = make_job(method, workspace="team")
    together = train_in_team(job, tmp_path)
    assert [line.loss for line in together.history] == pytest.approx([line.loss for line in alone.report.history], rel=1e-5)
    assert together.best_held_out_loss == pytest.approx(alone.report.best_held_out_loss, rel=1e-5)
    assert (together.best_step, together.tokens) == (alone.report.best_step, alone.report.tokens)
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    ours, theirs = load_file(alone.folder / name), load_file(job.workspace / "model" / name)
    assert all(float((ours[key] - theirs[key]).norm()) <= 1e-3 * float(ours[key].norm()) for key in ours)
    again = train_in_team(job, tmp_path)
    assert again.history == together.history, "a finished job is not trained again"


def test_a_team_of_one_changes_nothing() -> None:
    team, weight = Team(), torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 3.0)
    team.sum_gradients([weight])
    assert team.leads
    assert list(team.share(range(5))) == [0, 1, 2, 3, 4]
    assert weight.grad.tolist() == [3.0, 3.0]
    assert team.any(True, weight.device)
    assert not team.any(False, weight.device)
