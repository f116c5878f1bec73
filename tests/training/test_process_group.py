"""Two processes that train together learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from support.train_in_team import KILL
from support.training_samples import MakeJob
from tailorbird.domain.run import TrainingReport
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.process_group import TeamPlace


def in_team(job: TrainingJob, folder: Path, *, end_after: int = -1) -> dict[str, Any]:
    path = folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    script = Path(__file__).parents[1] / "support" / "train_in_team.py"
    said = subprocess.run(
        [sys.executable, str(script), str(path), str(end_after)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    logs = "".join(log.read_text(encoding="utf-8") for log in job.workspace.glob("member-*.log"))
    assert said.returncode == 0, said.stderr + logs
    found: dict[str, Any] = json.loads(said.stdout)
    assert end_after == KILL or found.get("code") != "member_lost", logs
    return found


@pytest.mark.parametrize("method", [pytest.param("lora", marks=pytest.mark.slow), pytest.param("full", marks=pytest.mark.jobs)])
def test_two_processes_have_the_losses_of_one(method: str, make_job: MakeJob, tmp_path: Path) -> None:
    """Ended in the middle by what hears of its progress, and gone on with: sums lie elsewhere, what is learned does not."""
    alone = open_trainer().train(make_job(method, workspace="alone"), lambda _: None)
    job = make_job(method, workspace="team")
    ended = in_team(job, tmp_path, end_after=5)
    assert (ended["raised"], ended["code"]) == ("Exhausted", "budget_spent")
    assert sorted((job.workspace / "checkpoints").glob("step-*"))[-1].name == "step-00000005", (
        "all members ended at the same step, and saved"
    )
    together = TrainingReport.model_validate(in_team(job, tmp_path))
    assert [line.loss for line in together.history] == pytest.approx([line.loss for line in alone.report.history], rel=1e-5)
    assert together.best_held_out_loss == pytest.approx(alone.report.best_held_out_loss, rel=1e-5)
    assert (together.best_step, together.tokens) == (alone.report.best_step, alone.report.tokens)
    assert together.environment["processes"] == "2"
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    ours, theirs = load_file(alone.folder / name), load_file(job.workspace / "model" / name)
    assert all(float((ours[key] - theirs[key]).norm()) <= 1e-3 * float(ours[key].norm()) for key in ours)


@pytest.mark.slow
def test_a_member_that_is_killed_ends_the_run_with_what_to_do(make_job: MakeJob, tmp_path: Path) -> None:
    said = in_team(make_job(), tmp_path, end_after=KILL)
    assert (said["raised"], said["code"]) == ("Unavailable", "member_lost")


@pytest.mark.slow
def test_a_stranger_does_not_train_with_them(make_job: MakeJob, tmp_path: Path) -> None:
    """Whoever takes somebody's place does not know the key."""
    job, members = make_job(), list[subprocess.Popen[str]]()
    for rank, key in enumerate(("aa", "bb")):
        command = [sys.executable, "-P", "-m", "tailorbird.training.worker_main", str(os.getpid())]
        members.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        place = TeamPlace(rank=rank, size=2, meeting=tmp_path / "meeting", key=key)
        members[-1].stdin.write(f"{place.model_dump_json()}\n{job.model_dump_json()}\n")  # type: ignore[union-attr]
        members[-1].stdin.flush()  # type: ignore[union-attr]
    said = [json.loads(member.stdout.readline()) for member in members]  # type: ignore[union-attr]
    for member in members:
        member.communicate(timeout=60)
    assert [each["code"] for each in said] == ["member_lost", "member_lost"]
    assert not (job.workspace / "model").exists()
