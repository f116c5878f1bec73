"""Working files of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.artifacts import StorageQuota
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["lora"])


def test_working_files_of_a_training_go_once_its_step_is_committed(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is an artifact by then. Until then they stay, whatever ends the process."""
    write, left = StorageQuota.enter, []

    def killed(self: StorageQuota, work: UnitOfWork, **options: bool) -> None:
        left.append(any(deps.runs.glob("*/make-lora-r16/trained/*")))
        if left.count(True) == 1:
            raise KeyboardInterrupt
        write(self, work, **options)

    monkeypatch.setattr(StorageQuota, "enter", killed)
    with pytest.raises(KeyboardInterrupt):
        climbing.adapt(deps, author, objective_path, Progress())
    assert list(deps.runs.glob("*/make-lora-r16"))
    left.clear()
    left.append(True)
    climbing.adapt(deps, author, objective_path, Progress())
    assert left.count(True) > 1
    assert not list(deps.runs.glob("*/make-*"))
