"""What cannot be trained is refused before anything is spent, with what to do next."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from support.training_samples import MakeJob, examples
from tailorbird.domain.errors import Exhausted, InvalidInput, ModelInvalid, TailorbirdError
from tailorbird.ports.trainer import Example, TrainingJob
from tailorbird.training import methods as lora_file
from tailorbird.training import open_trainer, tree_attention
from tailorbird.training.batches import RowLayout
from tailorbird.training.network import proof_of


def refused(job: TrainingJob) -> TailorbirdError:
    with pytest.raises(TailorbirdError) as caught:
        open_trainer().train(job, lambda _: None)
    assert caught.value.hint
    return caught.value


def test_no_rows_to_learn_or_to_measure_on(make_job: MakeJob) -> None:
    assert refused(make_job(train=())).error_code == "no_train_rows"
    assert refused(make_job(held_out=())).error_code == "no_train_rows"


def test_examples_above_the_limit_are_counted_and_never_cut(make_job: MakeJob) -> None:
    long = Example(text="private words " * 60, target="red")
    error = refused(make_job(train=(*examples(5), long)))
    assert (type(error), error.error_code) == (InvalidInput, "example_too_long")
    assert error.message.startswith("1 of ")
    assert "private" not in error.message + error.hint
    assert refused(make_job(held_out=(long,))).error_code == "example_too_long"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_loss_that_is_not_finite_stops_the_run(method: str, make_job: MakeJob) -> None:
    error = refused(make_job(method, learning_rate=1e30, epochs=6, clip_norm=0.0))
    assert (type(error), error.error_code) == (InvalidInput, "invalid_input")
    assert "lower the learning rate" in error.hint


def damaged(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_damaged_base_is_seen_before_the_first_step(make_job: MakeJob, tiny_base: Path, tmp_path: Path) -> None:
    assert refused(make_job(base=damaged(tiny_base, tmp_path / "damaged"))).error_code == "invalid_input"


def test_a_model_that_packing_would_change_is_refused(make_job: MakeJob, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although its architecture passed the test on random weights before."""
    assert proof_of(AutoConfig.from_pretrained(tiny_base)).layout is RowLayout.TREE

    def blind(lengths: list[int], size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(size, size, dtype=dtype)

    monkeypatch.setattr(tree_attention, "_group_mask", blind)
    error = refused(make_job())
    assert (type(error), error.error_code) == (ModelInvalid, "model_unsupported")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
    ],
)
def test_a_resource_that_runs_out_is_named(raised: Exception, code: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise raised

    monkeypatch.setattr(lora_file, "read_model", exhausted)
    error = refused(make_job())
    assert (type(error), error.error_code) == (Exhausted, code)
