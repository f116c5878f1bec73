"""An adapter's GGUF file changes the base's as the merged model's weights differ from it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from support.gguf_models import job, metadata, tensors, write_exportable
from support.oracle import edit_json, write_adapter
from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.inference import open_model_reader
from tailorbird.inference.gguf_export.architectures import ARCHITECTURES

LAYERS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
@pytest.mark.parametrize("rslora", [False, True])
def test_base_and_adapter_are_the_merged_model(model_type: str, rslora: bool, tmp_path: Path) -> None:
    base, reader = write_exportable(tmp_path / "base", model_type), open_model_reader()
    model = write_adapter(base, tmp_path / "adapter", r=4, lora_alpha=8, use_rslora=rslora)
    merged = tmp_path / "merged"
    write_exportable(merged, model_type)
    model.merge_and_unload().save_pretrained(merged)
    for name, source, adapter in (("base", base, None), ("merged", merged, None), ("adapter", base, tmp_path / "adapter")):
        found = reader.write_gguf(job(source, tmp_path / f"{name}.gguf", adapter=adapter))
    assert (found.architecture, found.tensors, found.positions) == (ARCHITECTURES[model_type].name, 2 * 2 * len(LAYERS), 0)
    known = metadata(tmp_path / "adapter.gguf")
    assert (known["general.type"], known["adapter.type"], known["general.license"]) == ("adapter", "lora", "apache-2.0")
    assert known["adapter.lora.alpha"] == pytest.approx(8 * math.sqrt(4) if rslora else 8)
    before, after, parts = (tensors(tmp_path / f"{name}.gguf") for name in ("base", "merged", "adapter"))
    for layer in (f"blk.{number}.{name}.weight" for number in range(2) for name in LAYERS):
        change = known["adapter.lora.alpha"] / 4 * parts[f"{layer}.lora_b"] @ parts[f"{layer}.lora_a"]
        assert np.abs(change).max() > 0.1
        assert np.allclose(after[layer] - before[layer], change, atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"alpha_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}]
)
def test_what_the_format_has_no_word_for_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_exportable(tmp_path / "base")
    write_adapter(base, tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "adapter_config.json", **settings)
    with pytest.raises(ModelInvalid) as caught:
        open_model_reader().write_gguf(job(base, tmp_path / "adapter.gguf", adapter=tmp_path / "adapter"))
    assert caught.value.error_code == "adapter_invalid"


def test_an_adapter_on_the_head_is_refused(tmp_path: Path) -> None:
    base, adapter = write_exportable(tmp_path / "base"), tmp_path / "adapter"
    write_adapter(base, adapter)
    held = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("model.layers.0.self_attn.q_proj", "lm_head"): tensor for name, tensor in held.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    with pytest.raises(InvalidInput) as caught:
        open_model_reader().write_gguf(job(base, tmp_path / "adapter.gguf", adapter=adapter))
    assert caught.value.error_code == "gguf_unsupported"
