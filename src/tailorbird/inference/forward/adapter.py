"""LoRA adapters in PEFT format, read and checked."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tailorbird.domain.errors import ModelInvalid

#: Linear layers of a decoder block that read the same input are computed as one; their parts in order.
GROUPS: dict[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_KEY = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.((?:self_attn|mlp)\.\w+)\.lora_(A|B)\.weight")
#: Settings of PEFT that change what an adapter computes and that must be unset.
_MUST_BE_UNSET = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "layer_replication", "use_qalora",
    "trainable_token_indices", "target_parameters",
)  # fmt: skip
#: Linear layer to (inputs, outputs).
LinearShapes = dict[str, tuple[int, int]]


class LowRank(NamedTuple):
    """A change ``up @ down`` of one linear layer's weight, fp32. The scaling is inside ``up``."""

    down_RI: torch.Tensor
    up_OR: torch.Tensor


#: The changes that an adapter makes, by (layer, name of the linear layer).
Changes = dict[tuple[int, str], LowRank]


def read_adapter(folder: Path, linears: LinearShapes, layers: int) -> Changes:
    """The adapter in ``folder``. Raises ModelInvalid when it cannot be read or does not fit a base of these shapes."""
    scaling = _scaling(folder)
    changes = {}
    for (layer, name), pair in _pairs(folder).items():
        _check_fit(folder, layer, name, pair, linears, layers)
        changes[layer, name] = LowRank(pair["A"], pair["B"] * scaling)
    return changes


def _scaling(folder: Path) -> float:
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(folder, "its adapter_config.json cannot be read") from error
    if config.get("peft_type") != "LORA":
        raise _refused(folder, "it is not a LoRA adapter")
    if config.get("bias", "none") != "none":
        raise _refused(folder, "it trains biases")
    for setting in _MUST_BE_UNSET:
        if config.get(setting):
            raise _refused(folder, f"it uses {setting}")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _pairs(folder: Path) -> dict[tuple[int, str], dict[str, torch.Tensor]]:
    try:
        tensors = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise _refused(folder, "its adapter_model.safetensors cannot be read") from error
    pairs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise _refused(folder, f"it changes {key}, which is not a linear layer of a decoder block")
        pairs.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor.float()
    if not pairs:
        raise _refused(folder, "it holds no tensors")
    return pairs


def _check_fit(folder: Path, layer: int, name: str, pair: dict[str, torch.Tensor], linears: LinearShapes, layers: int) -> None:
    if layer >= layers or name not in linears:
        raise _refused(folder, f"the base has no layer {layer}.{name}")
    if pair.keys() != {"A", "B"}:
        raise _refused(folder, f"half of layer {layer}.{name} is missing")
    inputs, outputs = linears[name]
    if pair["A"].ndim != 2 or pair["A"].shape[1] != inputs or pair["B"].shape != (outputs, pair["A"].shape[0]):
        raise _refused(folder, f"layer {layer}.{name} has another shape than the base's {inputs} inputs and {outputs} outputs")


def _refused(folder: Path, why: str) -> ModelInvalid:
    return ModelInvalid(
        f"the adapter in {folder.name} cannot be served on this base: {why}",
        "use a plain LoRA adapter (linear layers of the decoder, PEFT format) that was trained on this base model",
        code="adapter_invalid",
    )
