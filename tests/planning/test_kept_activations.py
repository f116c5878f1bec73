"""What a pass keeps, counted by formula, against the tensors that autograd saves in transformers' own layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from support.planning import MACHINE, TOKENS, D, inputs
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.plan import LoraSettings
from tailorbird.inference.model_description import model_class, shape_of
from tailorbird.planning.estimates import GIB, GPU_KEPT, guessed_memory
from tailorbird.planning.rung_plans import lora
from tailorbird.training.methods import LoraLinear, block_layers

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 128},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 192},
}
ROWS, LENGTH, RANK = 4, 128, 8


def described(model: Any) -> BaseModelRef:
    known = {"name": "m", "digest": D, "tokenizer_digest": D, "chat_template_digest": D, "license": "x"}
    return BaseModelRef.model_validate(known | shape_of(model).model_dump())


def saved_bytes(model: Any) -> int:
    """Bytes of all tensors that autograd saves in the decoder, weights aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.get_decoder()(input_ids=torch.full((ROWS, LENGTH), 2), use_cache=False)
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_formula_counts_what_autograd_saves(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type](**SIZES | FAMILIES[model_type])
    model = model_class(config, model_type).from_config(config, dtype=torch.bfloat16).eval()
    model.set_attn_implementation("sdpa")
    base = described(model)
    model.requires_grad_(False)
    for path, linear in block_layers(model).items():
        parent, _, name = path.rpartition(".")
        if name in base.linear_shapes:
            setattr(model.get_submodule(parent), name, LoraLinear(linear, RANK, 1.0))
    held = saved_bytes(model)
    assert formula(base) == pytest.approx(held, rel=0.1)


def formula(base: BaseModelRef) -> float:
    """Bytes that ``ROWS`` rows in a pass keep: the difference of two passes leaves out what does not grow with them."""
    lengths = {
        "shared_prefix": 0,
        "prompt_mean": 96,
        "prompt_p95": 96,
        "prompt_max": 96,
        "target_mean": LENGTH - 96,
        "target_max": LENGTH - 96,
    }
    work = inputs(base=base, machine=MACHINE.model_copy(update={"gpus": ("a GPU",)}), tokens=TOKENS.model_copy(update=lengths))
    planned = lora(work).training
    settings = planned.model_copy(update={"lora": LoraSettings(rank=RANK, alpha=32, targets=tuple(base.linear_shapes))})
    few, many = (guessed_memory(work, settings.model_copy(update={"batch_size": rows})) for rows in (ROWS, 2 * ROWS))
    passing = 6 * ROWS * LENGTH * 2 * base.intermediate
    return ((many - few) * GIB - passing) / GPU_KEPT
