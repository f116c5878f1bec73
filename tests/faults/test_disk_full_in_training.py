"""No space left for a checkpoint, or for the trained weights, of the real trainer: an error with its code, and then the same bytes."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import LlamaConfig

from support.random_models import save_llama
from support.training_samples import DIGEST, PROMPT, examples, settings
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import checkpoints, methods, open_trainer

#: What safetensors says when the disk is full.
FULL = SafetensorError(f"Error while serializing: I/O error: No space left on device (os error {errno.ENOSPC})")


@pytest.fixture(scope="module")
def tiny_base(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers that speaks the real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    save_llama(folder, LlamaConfig(vocab_size=49152, tie_word_embeddings=True, **shape))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(base_model_folder / name, folder / name)
    return folder


def job_in(workspace: Path, base: Path) -> TrainingJob:
    return TrainingJob(
        base=base,
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings(epochs=1),
        prompt=PROMPT,
        train=examples(16),
        held_out=examples(22)[16:],
        workspace=workspace,
    )


def trained_bytes(job: TrainingJob, report: Callable[[TrainingProgress], None] = lambda _: None) -> str:
    folder = open_trainer().train(job, report).folder
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def out_of_space_after(calls: int, write: Callable[..., None]) -> Callable[..., None]:
    """``write`` as long as there is space: from then on half a file, and the error of a full disk."""
    left = calls

    def save(tensors: object, path: Path, **rest: object) -> None:
        nonlocal left
        if not left:
            path.write_bytes(b"half")
            raise FULL
        left -= 1
        write(tensors, path, **rest)

    return save


@pytest.mark.parametrize("place", [checkpoints, methods])
def test_no_space_for_what_training_writes(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object) -> None:
    whole = trained_bytes(job_in(tmp_path / "whole", tiny_base))
    job = job_in(tmp_path / "full", tiny_base)
    with monkeypatch.context() as full:
        full.setattr(place, "save_file", out_of_space_after(3 if place is checkpoints else 0, checkpoints.save_file))
        with pytest.raises(Exhausted) as caught:
            open_trainer().train(job, lambda _: None)
    assert caught.value.error_code == "disk_full"
    assert "free space" in caught.value.hint
    seen: list[TrainingProgress] = []
    assert trained_bytes(job, seen.append) == whole
    assert all(line.step > 0 for line in seen), "it started again, though a checkpoint was whole"
