"""A run goes on from another's training by name, and the record says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.domain.errors import Conflict, Forbidden, NotFound
from tailorbird.domain.run import RunState
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.testing import MemoryTrainer
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.steps import training_fork
from tailorbird.usecases.storage_quota import TenantStore


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["lora"])


def begun(deps: Dependencies, run: str) -> Path:
    """What an interrupted training left."""
    folder = deps.runs / run / "make-lora-r16"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "state.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_training_is_told_whose_checkpoints_it_may_take(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    begun(deps, run.id)
    assert training_fork.fork(deps, author, run.id[:8], run.id).id == run.id
    jobs: list[TrainingJob] = []
    train = MemoryTrainer.train

    def noted(self: MemoryTrainer, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        jobs.append(job)
        return train(self, job, report)

    monkeypatch.setattr(MemoryTrainer, "train", noted)
    climbing.adapt(deps, author, objective_path, Progress())
    assert [job.fork for job in jobs] == [run.id] * len(jobs)
    assert jobs
    with deps.ledger.work("acme", write=False) as work:
        (event,) = [entry.event for entry in work.events.about(run.id) if entry.event.kind == "run.forked"]
    assert event.data["from"] == run.id


def test_checkpoints_are_copied_and_the_source_keeps_its_own(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    objective_path.write_text(objective_path.read_text(encoding="utf-8") + "seed: 5\n", encoding="utf-8")
    other = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    left = begun(deps, run.id)
    training_fork.fork(deps, author, other.id, run.id)
    copied = deps.runs / other.id / left.name / "checkpoints" / "state.json"
    assert copied.read_text(encoding="utf-8") == "{}"
    assert (left / "checkpoints" / "state.json").exists()
    assert training_fork.source_of(deps.runs / other.id) == run.id
    assert training_fork.source_of(deps.runs / run.id) == ""


def test_working_files_of_a_training_go_once_its_step_is_committed(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is an artifact by then. Until then they stay, whatever ends the process."""
    write, left = TenantStore.account, []

    def killed(self: TenantStore, work: UnitOfWork) -> None:
        left.append(any(deps.runs.glob("*/make-lora-r16/trained/*")))
        if left.count(True) == 1:
            raise KeyboardInterrupt
        write(self, work)

    monkeypatch.setattr(TenantStore, "account", killed)
    with pytest.raises(KeyboardInterrupt):
        climbing.adapt(deps, author, objective_path, Progress())
    assert list(deps.runs.glob("*/make-lora-r16"))
    left.clear()
    left.append(True)
    climbing.adapt(deps, author, objective_path, Progress())
    assert left.count(True) > 1
    assert not list(deps.runs.glob("*/make-*"))


def test_what_cannot_be_forked(deps: Dependencies, author: Actor, approver: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    with pytest.raises(NotFound) as caught:
        training_fork.fork(deps, author, run.id, run.id)
    assert caught.value.error_code == "fork_empty"
    with pytest.raises(NotFound):
        training_fork.fork(deps, author, run.id, "0" * 12)
    with pytest.raises(Forbidden):
        training_fork.fork(deps, approver, run.id, run.id)
    climbing.adapt(deps, author, objective_path, Progress())
    with pytest.raises(Conflict):
        training_fork.fork(deps, author, run.id, run.id)
