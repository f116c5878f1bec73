"""The weights of a base model, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.adapter import GROUPS, LinearShapes
from tailorbird.inference.forward.precision import Placement
from tailorbird.inference.silence_transformers import quiet

#: Architectures whose forward pass is ours.
_FAMILY = frozenset({"llama", "mistral", "qwen2"})
#: Kinds of rotary embedding whose angles depend on the length of the text, so that they cannot stand in one table.
_MOVING = frozenset({"dynamic", "longrope"})


def read_weights(folder: Path, placement: Placement) -> Any:
    """The model in ``folder``. Raises ModelInvalid when it cannot be read, is incomplete or of another family."""
    try:
        with quiet():
            model, missing = _read_model(folder, placement)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelInvalid(
            f"the model in {folder.name} cannot be read ({type(error).__name__})", "pull or train it again", code="model_unreadable"
        ) from error
    if missing:
        raise ModelInvalid(f"the model in {folder.name} lacks {missing} of its weights", "pull or train it again", code="model_unreadable")
    return model


def linear_shapes(model: Any) -> LinearShapes:
    """Inputs and outputs of the linear layers of a decoder block."""
    found = {name: model.model.layers[0].get_submodule(name).weight.shape for names in GROUPS.values() for name in names}
    return {name: (inputs, outputs) for name, (outputs, inputs) in found.items()}


def rotary_tables(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (context x head size, fp32) of every position, by transformers' own embedding."""
    positions = torch.arange(model.config.max_position_embeddings, device=model.device).unsqueeze(0)
    cos, sin = model.model.rotary_emb(torch.zeros(1, 1, device=model.device), positions)
    return cos[0].float().contiguous(), sin[0].float().contiguous()


def joined(layer: Any, group: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of the linear layers of a group, their outputs side by side."""
    linears = [layer.get_submodule(name) for name in GROUPS[group]]
    weight_OI = torch.cat([linear.weight.detach() for linear in linears])
    if all(linear.bias is None for linear in linears):
        return weight_OI, None
    return weight_OI, torch.cat([linear.bias.detach() for linear in linears])


def _read_model(folder: Path, placement: Placement) -> tuple[Any, int]:
    """The model as transformers reads it, and how many of its weights the folder lacks."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _check_family(folder, config)
    read: Any = AutoModelForCausalLM.from_pretrained
    model, info = read(
        folder,
        dtype=placement.dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    return model.eval().to(placement.device), len(info["missing_keys"])


def _check_family(folder: Path, config: Any) -> None:
    sliding = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if config.model_type not in _FAMILY or sliding is not None:
        raise ModelInvalid(
            f"the model in {folder.name} ({config.model_type}) is not of the Llama family",
            f"use one of: {', '.join(sorted(_FAMILY))}, without a sliding window",
            code="model_family",
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in _MOVING:
        raise ModelInvalid(
            f"the model in {folder.name} turns its positions by a table that changes with the text ({rope})",
            "use a model with a fixed rotary embedding",
            code="model_family",
        )
