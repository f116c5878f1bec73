"""Activations counted on a model without memory, against the tensors that autograd saves of one that has numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from support.model_families import config_of
from tailorbird.decoders import blocks, model_class
from tailorbird.domain.base_model import SavedActivations
from tailorbird.inference.model_description import shape_of
from tailorbird.inference.saved_activations import count_saved
from tailorbird.training.methods import LoraLinear, block_layers

RANK, LENGTHS = 4, (256, 512)
#: Norms before and behind, windows, capped scores, states that run, convolutions.
FAMILIES = [
    "qwen3",
    "lfm2",
]


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
