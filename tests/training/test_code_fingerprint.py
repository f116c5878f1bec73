"""Checkpoints of another job or other code are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.training_samples import MakeJob
from tailorbird.domain.errors import Conflict
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer, trainer
from tailorbird.training import trainer as code_fingerprint
from tailorbird.training.trainer import code_digest

ROOMS = Path(code_fingerprint.__file__).parents[1]
OTHER_CODE = "sha256:" + "c" * 64


def quiet(line: TrainingProgress) -> None:
    """Sees a step and says nothing."""


def interrupted_at(job: TrainingJob, step: int) -> None:
    def report(line: TrainingProgress) -> None:
        if line.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, report)


def refused(job: TrainingJob) -> str:
    with pytest.raises(Conflict) as caught:
        open_trainer().train(job, quiet)
    return caught.value.error_code


def test_other_code_is_refused(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_at(make_job(), 5)
    monkeypatch.setattr(trainer, "code_digest", lambda: OTHER_CODE)
    assert refused(make_job()) == "checkpoint_foreign"


@pytest.mark.parametrize(
    ("room", "file", "is_another"),
    [
        ("training", "loop.py", True),
        ("text", "words.py", True),
        ("rungs", "floor.py", False),
    ],
)
def test_code_of_the_rooms_that_decide_steps_counts(
    room: str, file: str, is_another: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tailorbird"
    for name in ("training", "text", "chat", "domain", "base_models", "rungs"):
        shutil.copytree(ROOMS / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOMS / "decoders.py", package)
    monkeypatch.setattr(code_fingerprint, "_PACKAGE", package)
    before = code_digest.__wrapped__()
    with (package / room / file).open("a", encoding="utf-8") as changed:
        changed.write("FURTHER = 1\n")
    assert (code_digest.__wrapped__() != before) is is_another
