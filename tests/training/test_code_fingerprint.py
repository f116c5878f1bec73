"""Going on from another training by name: never silently, and written into the report."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from support.training_samples import MakeJob, TrainWhole, adapters
from tailorbird.domain.errors import Conflict
from tailorbird.domain.run import TrainingFork, TrainingProgress
from tailorbird.ports.trainer import TrainedModel, TrainingJob
from tailorbird.training import code_fingerprint, open_trainer, trainer
from tailorbird.training.code_fingerprint import code_digest, versions

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


def sha256(trained: TrainedModel) -> str:
    return hashlib.sha256((trained.folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_other_code_is_refused_and_goes_on_by_name(make_job: MakeJob, train_whole: TrainWhole, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the code only says that it is another one, so that the bytes can be compared with those of a run that was not stopped."""
    whole = train_whole(make_job())
    interrupted_at(make_job(), 5)
    monkeypatch.setattr(trainer, "code_digest", lambda: OTHER_CODE)
    assert refused(make_job()) == "checkpoint_other_code"
    trained = open_trainer().train(make_job().model_copy(update={"fork": "run-1"}), quiet)
    assert trained.report.forks == (TrainingFork(source="run-1", step=5, same_job=True),)
    assert trained.report.environment["code"] == OTHER_CODE
    assert sha256(trained) == sha256(whole)


def test_another_job_takes_the_weights_alone_and_starts_its_own_steps(make_job: MakeJob) -> None:
    source = open_trainer().train(make_job(), quiet)
    changed = make_job(train=make_job().train[1:], learning_rate=1e-3)
    assert refused(changed) == "checkpoint_foreign"
    forked = changed.model_copy(update={"fork": "run-1"})
    interrupted_at(forked, 3)
    seen: list[TrainingProgress] = []
    trained = open_trainer().train(forked, seen.append)
    assert seen[0].step == 4, "interrupted, it goes on from its own checkpoints"
    assert trained.report.forks == (TrainingFork(source="run-1", step=source.report.steps, same_job=False),)
    # It starts where the other one ended, not untrained.
    assert trained.report.first_held_out_loss == pytest.approx(source.report.history[-1].held_out_loss, abs=0.05)
    assert trained.report.history[0].step == 0


def test_weights_of_another_shape_are_refused(make_job: MakeJob) -> None:
    interrupted_at(make_job(), 3)
    wider = make_job(lora=adapters()["plain"].model_copy(update={"rank": 8})).model_copy(update={"fork": "run-1"})
    assert refused(wider) == "fork_unfit"


def test_a_name_alone_changes_nothing(make_job: MakeJob, train_whole: TrainWhole) -> None:
    plain = train_whole(make_job())
    named = open_trainer().train(make_job(workspace="named").model_copy(update={"fork": "run-1"}), quiet)
    assert sha256(named) == sha256(plain)
    assert named.report.forks == ()


def test_the_code_is_named_by_its_files_and_libraries() -> None:
    assert code_digest() == code_digest()
    assert {"torch", "transformers", "tokenizers", "safetensors"} <= versions().keys()


@pytest.mark.parametrize(
    ("room", "file", "added", "is_another"),
    [
        ("training", "loop.py", "# a remark\n", False),
        ("training", "loop.py", "FURTHER = 1\n", True),
        ("text", "prompt_rendering.py", "FURTHER = 1\n", True),
        ("text", "canaries.py", "FURTHER = 1\n", False),
        ("domain", "errors.py", "FURTHER = 1\n", False),
    ],
)
def test_only_code_that_a_training_runs_through_counts(
    room: str, file: str, added: str, is_another: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tailorbird"
    for name in ("training", "text", "domain"):
        shutil.copytree(ROOMS / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_fingerprint, "_PACKAGE", package)
    before = code_digest.__wrapped__()
    with (package / room / file).open("a", encoding="utf-8") as changed:
        changed.write(added)
    assert (code_digest.__wrapped__() != before) is is_another
