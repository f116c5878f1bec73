"""Tiny random models with the real tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from support.native_forms import ENGINE_FORMS, FORMS
from support.oracle import MakeModel
from tailorbird.inference.native import library

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(ENGINE_FORMS))
def native_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form that the native pass has within the test: this processor's, and the portable one as others compile it."""
    monkeypatch.setattr(library, "form_here", lambda: FORMS[request.param])
    return str(request.param)


@pytest.fixture(scope="session")
def make_model(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Makes a folder with a tiny random model, fp32, with the real tokenizer and chat template."""

    def make(model_type: str = "llama", seed: int = 0, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {
            "vocab_size": 49152,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.4,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        }
        config = AutoConfig.for_model(model_type, **sizes | ({"sliding_window": None} if model_type == "mistral" else {}) | changes)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            # Norms and biases start at ones and zeros; random ones show whether they are used.
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        model.save_pretrained(folder)
        for name in TOKENIZER_FILES:
            shutil.copy(base_model_folder / name, folder / name)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny(make_model: MakeModel) -> Path:
    """A tiny random Llama."""
    return make_model()
