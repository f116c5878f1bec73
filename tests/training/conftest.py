"""A tiny random model that speaks the real tokenizer, and jobs for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from support.random_models import save_llama
from support.training_samples import DIGEST, PROMPT, MakeJob, TrainWhole, examples, settings
from tailorbird.ports.trainer import TrainedModel, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import RowTokenizer, TokenizedRow


@pytest.fixture(scope="session")
def tiny_base(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    save_llama(folder, config)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(base_model_folder / name, folder / name)
    return folder


@pytest.fixture
def make_job(tiny_base: Path, tmp_path: Path) -> MakeJob:
    """Makes a job on the tiny model; ``workspace`` is a name below the test's folder, other words change the job or its settings."""

    def make(method: str = "lora", workspace: str = "work", base: Path | None = None, **changes: Any) -> TrainingJob:
        job = {
            "base": base or tiny_base,
            "base_digest": DIGEST,
            "snapshot": DIGEST,
            "prompt": PROMPT,
            "train": examples(22),
            "held_out": examples(30)[22:],
            "workspace": tmp_path / workspace,
        }
        job |= {name: changes.pop(name) for name in list(changes) if name in job}
        return TrainingJob(settings=settings(method, **changes), **job)

    return make


@pytest.fixture(scope="session")
def train_whole(tmp_path_factory: pytest.TempPathFactory) -> TrainWhole:
    """Trains a job in a workspace of its own, without any interruption; the same job once, for all tests that compare with it."""
    done: dict[str, TrainedModel] = {}

    def train(job: TrainingJob) -> TrainedModel:
        key = job.model_copy(update={"workspace": Path()}).model_dump_json()
        if key not in done:
            elsewhere = job.model_copy(update={"workspace": tmp_path_factory.mktemp("whole") / "work"})
            done[key] = open_trainer().train(elsewhere, lambda _: None)
        return done[key]

    return train


@pytest.fixture(scope="session")
def rows(tiny_base: Path) -> list[TokenizedRow]:
    return RowTokenizer(tiny_base).encode(PROMPT, examples(9))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tiny model has nothing to share, and a run in another process must round alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
