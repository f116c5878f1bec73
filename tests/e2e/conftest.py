"""A desk per module, with the base model shared by all; and a model that costs next to nothing, for what is not about learning."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.e2e import Desk
from tailorbird.domain.plan import Calibration
from tailorbird.ledger import UnitOfWork
from tailorbird.settings import load_settings
from tailorbird.wiring import open_dependencies


@pytest.fixture(scope="session")
def timings() -> list[Calibration]:
    """Timed steps of this machine, for all desks: each were half a minute of the same."""
    return []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, base_model_folder: Path, timings: list[Calibration]) -> Iterator[Desk]:
    """Removed with its module: models that were trained whole take gigabytes, and the machine may have few."""
    folder = tmp_path_factory.mktemp("desk")
    made = Desk(folder / "workspace", base_model_folder.parent)
    with _record(made) as work:
        for one in timings:
            work.records.put(one)
    yield made
    with _record(made) as work:
        timings[:] = [work.records.get(Calibration, digest) for digest in work.records.digests(Calibration)]
    shutil.rmtree(folder)


@contextmanager
def _record(desk: Desk) -> Iterator[UnitOfWork]:
    ledger = open_dependencies(load_settings(desk.workspace, {})).ledger
    with ledger.work("acme") as work:
        yield work
    ledger.close()


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
