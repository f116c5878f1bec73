"""A model's GGUF file holds what the model is, is compared with it, and is refused where llama.cpp would compute something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.gguf_models import job, metadata, tensors, write_exportable
from support.model_families import write_family
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.inference import gguf_export, open_model_reader
from tailorbird.inference.gguf_export import ARCHITECTURES
from tailorbird.ports.model_reader import GgufFile

TYPES = sorted(ARCHITECTURES)


def written(source: Path, target: Path, **changes: Any) -> GgufFile:
    return open_model_reader().write_gguf(job(source, target, **changes))


@pytest.mark.parametrize("model_type", TYPES)
def test_every_architecture_is_read_back_as_it_was(model_type: str, tmp_path: Path) -> None:
    source, path = write_exportable(tmp_path / "model", model_type), tmp_path / "model.gguf"
    found = written(source, path)
    assert found.mean_kl < 1e-10
    assert found.positions > 10
    known, config = metadata(path), json.loads((source / "config.json").read_text())
    arch = found.architecture
    assert found.tensors == len(tensors(path)) == 2 * 9 + 3 + {"qwen2": 6, "qwen3": 4}.get(model_type, 0)
    assert known["general.architecture"] == arch == ARCHITECTURES[model_type].name
    assert (known["general.name"], known["general.license"]) == ("desk 1234", "apache-2.0")
    assert (known["general.base_model.count"], known["general.base_model.0.name"], known["tailorbird.release"]) == (1, "base", "sha")
    assert known["general.file_type"] == gguf.LlamaFileType.ALL_F32
    expected = {"embedding_length": 32, "block_count": 2, "feed_forward_length": 48, "attention.head_count": 4}
    expected |= {"attention.head_count_kv": 2, "attention.key_length": 8, "rope.dimension_count": 8, "vocab_size": 320}
    assert {name: known[f"{arch}.{name}"] for name in expected} == expected
    assert known[f"{arch}.context_length"] == (8 if model_type == "mistral" else 256)
    assert known[f"{arch}.rope.freq_base"] == config["rope_parameters"]["rope_theta"]


def test_weights_are_rounded_as_asked_and_what_is_no_matrix_stays(tmp_path: Path) -> None:
    source, path = write_exportable(tmp_path / "model"), tmp_path / "model.gguf"
    found = written(source, path, precision="q8_0")
    assert found.precision == "q8_0"
    assert 0 < found.mean_kl < 1e-2
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert types["blk.1.attn_q.weight"] == types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.attn_norm.weight"] == types["output_norm.weight"] == "F32"
    # Rows of 48 are no multiple of a block of 32.
    assert types["blk.0.ffn_down.weight"] == "F32"
    assert metadata(path)["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0


def test_a_file_that_answers_otherwise_is_never_said_to_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic mistake: queries and keys in the order of transformers. Such a file loads, and talks nonsense."""
    source = write_exportable(tmp_path / "model")
    monkeypatch.setattr(gguf_export, "reordered", lambda rows, *_: rows)
    with pytest.raises(Corrupt) as caught:
        written(source, tmp_path / "model.gguf")
    assert caught.value.error_code == "corrupt"


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    refused(write_exportable(tmp_path / "model", **config), tmp_path / "model.gguf", "export_nothing")


def refused(source: Path, target: Path, code: str, **changes: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        written(source, target, **changes)
    assert caught.value.error_code == code


def test_other_architectures_and_tensors_are_refused(tmp_path: Path) -> None:
    refused(write_family(tmp_path / "phi", "phi"), tmp_path / "model.gguf", "export_nothing")
    source = write_exportable(tmp_path / "model", "qwen3")
    held = load_file(source / "model.safetensors")
    for name in ("model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.sinks"):
        save_file(held | {name: torch.zeros(32)}, source / "model.safetensors", metadata={"format": "pt"})
        refused(source, tmp_path / "model.gguf", "export_nothing")
