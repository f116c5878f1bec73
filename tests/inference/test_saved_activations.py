"""Activations counted on a model without memory, against the tensors that autograd saves of one that has numbers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from support.clocks import replace_clock
from support.model_families import config_of, write_family
from tailorbird.decoders import blocks, model_class
from tailorbird.domain.base_model import SavedActivations
from tailorbird.inference import saved_activations
from tailorbird.inference.model_description import describe_here, shape_of
from tailorbird.inference.saved_activations import count_saved
from tailorbird.training.methods import LoraLinear, block_layers

RANK, LENGTHS = 4, (256, 512)
#: Norms before and behind, windows, capped scores, states that run, convolutions.
FAMILIES = ["qwen3", "gemma2", "granite", "olmo2", "falcon_h1", "lfm2", "phi3"]


def saved_bytes(model: Any, length: int) -> int:
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    # A row that is padded: where none is, transformers drops the mask.
    ids, mask = torch.full((1, length), 2), (torch.arange(length) < length - 3).long()[None]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def config(family: str) -> Any:
    made = config_of(family)
    made.max_position_embeddings = 1024
    return AutoConfig.for_model(**made.to_dict()) if "original_max_position_embeddings" not in made.to_dict() else made


def count_without_memory(made: Any, adapted: set[str]) -> tuple[SavedActivations, ...]:
    with torch.device("meta"):
        model = model_class(made, "m").from_config(made)
    return count_saved(model, blocks(model), adapted)


def test_layers_that_repeat_are_counted_once_and_multiplied() -> None:
    made = config("gemma2")
    made.num_hidden_layers, made.layer_types = 8, ["sliding_attention", "full_attention"] * 4
    with torch.device("meta"):
        model = model_class(made, "m").from_config(made)
    whole = count_saved(model, blocks(model), {"o_proj"})
    assert len(blocks(model)) == 2
    made.num_hidden_layers, made.layer_types = 4, ["sliding_attention", "full_attention"] * 2
    half = count_without_memory(made, {"o_proj"})
    for eight, four in zip(whole, half, strict=True):
        assert 1.9 < eight.token / four.token < 2.1


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapters_pass_keeps_what_was_counted(family: str) -> None:
    made = config(family)
    model = model_class(made, family).from_config(made, dtype=torch.bfloat16).eval()
    adapted = set(shape_of(model).linear_shapes)
    counted = {(one.layout, one.trained, one.precision): one for one in count_without_memory(made, adapted)}
    padded = counted["padded", "adapter", "bf16"]
    model.requires_grad_(False)
    layers = [(path, layer) for path, layer in block_layers(model).items() if path.rpartition(".")[2] in adapted]
    for path, layer in layers:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LoraLinear(layer, RANK, 1.0))
    short, long = (saved_bytes(model, length) for length in LENGTHS)
    low = 2 * RANK * len(layers)
    expected = [length * (padded.token + low + padded.pair * length) for length in LENGTHS]
    assert expected[1] - expected[0] == pytest.approx(long - short, rel=0.03)
    assert counted["packed", "adapter", "bf16"].token <= padded.token * 1.01


def wide_as_the_row() -> Any:
    """Matrices whose copies in bf16 have as many bytes as what is kept of a row of one of the lengths."""
    made = config("qwen3")
    made.hidden_size, made.num_attention_heads, made.num_key_value_heads, made.head_dim, made.intermediate_size = 256, 4, 4, 64, 512
    return made


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("family", ["qwen3", "falcon_h1", "wide"])
def test_a_pass_of_all_weights_keeps_what_was_counted(family: str, precision: str, dtype: torch.dtype) -> None:
    """Weights stay in fp32. What autocast makes of them is of one size at both lengths, and so of no account here."""
    made = wide_as_the_row() if family == "wide" else config(family)
    model = model_class(made, family).from_config(made, dtype=torch.float32).eval()
    counted = {(one.layout, one.trained, one.precision): one for one in count_without_memory(made, set())}
    padded = counted["padded", "full", precision]
    with torch.autocast("cpu", dtype=dtype, enabled=precision == "bf16"):
        short, long = (saved_bytes(model, length) for length in LENGTHS)
    expected = [length * (padded.token + padded.pair * length) for length in LENGTHS]
    assert expected[1] - expected[0] == pytest.approx(long - short, rel=0.03)


def test_what_depends_on_values_is_left_to_the_formula() -> None:
    """The experts' products of a model without memory are defined for bf16 alone."""
    made = config("deepseek_v3")
    kinds = {(one.trained, one.precision) for one in count_without_memory(made, {"o_proj"})}
    assert ("adapter", "bf16") in kinds
    assert ("full", "fp32") not in kinds


def test_what_takes_too_long_is_left_to_the_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that describes a model has a limit of its own, whose end would be that of the description."""
    folder, looks = write_family(tmp_path, "qwen3"), itertools.count()
    replace_clock(monkeypatch, saved_activations, process_time=lambda: 0.5 * next(looks))
    found = describe_here(folder)
    assert (found.anatomy.saved, found.layers) == ((), 2)
    assert next(looks) < 100, "it goes on after its time is spent"


def test_a_pass_that_was_counted_in_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, looks = count_without_memory(config("qwen3"), {"o_proj"}), itertools.count()
    replace_clock(monkeypatch, saved_activations, process_time=lambda: 0.01 * next(looks))
    kept = count_without_memory(config("qwen3"), {"o_proj"})
    assert 0 < len(kept) < len(whole)
    assert kept == whole[: len(kept)]
