"""A run goes on from another's training by name, and the record says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_kit import write_objective

from tailorbird.domain.errors import Conflict, Forbidden, NotFound
from tailorbird.domain.run import RunState
from tailorbird.integrations.memory import MemoryTrainer
from tailorbird.lifecycle import Actor, Parts, Progress
from tailorbird.lifecycle.running import adapt as climbing
from tailorbird.lifecycle.steps import fork
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["lora"])


def begun(parts: Parts, run: str) -> Path:
    """What an interrupted training left."""
    folder = parts.runs / run / "make-lora-r16"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "state.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_training_is_told_whose_checkpoints_it_may_take(
    parts: Parts, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = climbing.submit(parts, author, objective_path, RunState.ACTIVE)
    begun(parts, run.id)
    assert fork.fork(parts, author, run.id[:8], run.id).id == run.id
    jobs: list[TrainingJob] = []
    train = MemoryTrainer.train

    def noted(self: MemoryTrainer, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        jobs.append(job)
        return train(self, job, report)

    monkeypatch.setattr(MemoryTrainer, "train", noted)
    climbing.adapt(parts, author, objective_path, Progress())
    assert [job.fork for job in jobs] == [run.id] * len(jobs)
    assert jobs
    with parts.ledger.work("acme", write=False) as work:
        (event,) = [entry.event for entry in work.events.about(run.id) if entry.event.kind == "run.forked"]
    assert event.data["from"] == run.id


def test_checkpoints_are_copied_and_the_source_keeps_its_own(parts: Parts, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(parts, author, objective_path, RunState.ACTIVE)
    objective_path.write_text(objective_path.read_text(encoding="utf-8") + "seed: 5\n", encoding="utf-8")
    other = climbing.submit(parts, author, objective_path, RunState.ACTIVE)
    left = begun(parts, run.id)
    fork.fork(parts, author, other.id, run.id)
    copied = parts.runs / other.id / left.name / "checkpoints" / "state.json"
    assert copied.read_text(encoding="utf-8") == "{}"
    assert (left / "checkpoints" / "state.json").exists()
    assert fork.source_of(parts.runs / other.id) == run.id
    assert fork.source_of(parts.runs / run.id) == ""


def test_what_cannot_be_forked(parts: Parts, author: Actor, approver: Actor, objective_path: Path) -> None:
    run = climbing.submit(parts, author, objective_path, RunState.ACTIVE)
    with pytest.raises(NotFound) as caught:
        fork.fork(parts, author, run.id, run.id)
    assert caught.value.error_code == "fork_empty"
    with pytest.raises(NotFound):
        fork.fork(parts, author, run.id, "0" * 12)
    with pytest.raises(Forbidden):
        fork.fork(parts, approver, run.id, run.id)
    climbing.adapt(parts, author, objective_path, Progress())
    with pytest.raises(Conflict):
        fork.fork(parts, author, run.id, run.id)
