"""A desk per module, with the base model shared by all; and a model that costs next to nothing, for what is not about learning."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.e2e import Desk


@pytest.fixture(scope="session")
def timings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Timed steps of this machine, for all desks: each were half a minute of the same."""
    return tmp_path_factory.mktemp("timings")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, base_model_folder: Path, timings: Path) -> Iterator[Desk]:
    """Removed with its module: models that were trained whole take gigabytes, and the machine may have few."""
    folder = tmp_path_factory.mktemp("desk")
    made = Desk(folder / "workspace", base_model_folder.parent)
    (made.workspace / "timings").symlink_to(timings)
    yield made
    shutil.rmtree(folder)


@pytest.fixture
def untaught(tmp_path: Path, base_model_folder: Path) -> Path:
    """A small model that was never trained, with the tokenizer of the real one."""
    import torch
    from transformers import LlamaConfig

    from support.random_models import save_llama

    folder = tmp_path / "untaught"
    torch.manual_seed(7)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=49152, max_position_embeddings=2048, tie_word_embeddings=True, **shape)
    save_llama(folder, config)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(base_model_folder / name, folder / name)
    return folder
