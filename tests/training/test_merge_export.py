"""A merged model answers as base and adapter do, in the type of the base, and stands alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.training_samples import PROMPT, MakeJob, TrainWhole, adapters, examples
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.ports.trainer import Merged, MergeJob
from tailorbird.training import merge_export, open_trainer

WITH_ADAPTER = sorted(adapters())


TrainedAdapter = Callable[..., Path]


@pytest.fixture
def trained(make_job: MakeJob, train_whole: TrainWhole) -> TrainedAdapter:
    """The folder of an adapter, by its name and base; nobody changes it."""

    def train(name: str = "plain", base: Path | None = None) -> Path:
        return train_whole(make_job(lora=adapters()[name], base=base, epochs=1)).folder

    return train


def merge(base: Path, adapter: Path, target: Path) -> Merged:
    target.mkdir()
    return open_trainer().merge(MergeJob(base=base, adapter=adapter, target=target, prompt=PROMPT, probes=examples(4)))


@pytest.mark.parametrize("name", WITH_ADAPTER)
def test_every_kind_of_adapter_merges_to_the_same_answers(name: str, tiny_base: Path, trained: TrainedAdapter, tmp_path: Path) -> None:
    found = merge(tiny_base, trained(name), tmp_path / "merged")
    assert found.dtype == "float32"
    assert 0 <= found.mean_kl <= found.max_kl < 1e-5
    assert found.positions > 100
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    changed = (merged.model.layers[0].self_attn.q_proj.weight - base.model.layers[0].self_attn.q_proj.weight).norm()
    assert changed > 1e-3
    assert torch.equal(merged.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").encode("<|im_end|>") == [2]
    assert (tmp_path / "merged" / "chat_template.jinja").read_bytes() == (tiny_base / "chat_template.jinja").read_bytes()
    assert str(tmp_path) not in (tmp_path / "merged" / "config.json").read_text(encoding="utf-8")


def test_a_merged_model_that_differs_is_never_said_to_be_done(
    tiny_base: Path, trained: TrainedAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """peft#2321: points of accuracy lost in a merge that nobody compared."""
    sound = merge_export._merged

    def coarse(weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        step = weight.abs().max() / 7
        return (sound(weight, *rest) / step).round() * step

    monkeypatch.setattr(merge_export, "_merged", coarse)
    with pytest.raises(Corrupt) as caught:
        merge(tiny_base, trained(), tmp_path / "merged")
    assert caught.value.error_code == "corrupt"


def test_an_adapter_of_another_base_is_refused(tiny_base: Path, trained: TrainedAdapter, tmp_path: Path) -> None:
    adapter = shutil.copytree(trained(), tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for number, changed in enumerate(({key: tensors[key][:, :5].clone()}, {key.replace("layers.0", "layers.9"): tensors[key].clone()})):
        save_file(tensors | changed, adapter / "adapter_model.safetensors")
        with pytest.raises(ModelInvalid) as caught:
            merge(tiny_base, adapter, tmp_path / f"merged-{number}")
        assert caught.value.error_code == "adapter_invalid"
