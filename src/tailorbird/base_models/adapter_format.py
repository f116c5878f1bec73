"""LoRA adapters in PEFT format: config and tensors, read and refused alike by whoever merges, exports or serves them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.text.regex import check_pattern, matches

CONFIG_FILE, TENSORS_FILE = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight")
#: Settings of PEFT that change what an adapter computes beyond a low-rank change of linear layers, and that must be unset.
_MUST_BE_UNSET = (
    "use_dora", "modules_to_save", "lora_bias", "layer_replication", "use_qalora", "trainable_token_indices", "target_parameters",
    "alora_invocation_tokens", "corda_config", "arrow_config",
)  # fmt: skip


class AdapterChange(NamedTuple):
    """A change ``scaling * up @ down`` of one linear layer's weight, both torch tensors in the number format of the adapter's file."""

    down_RI: Any
    up_OR: Any
    scaling: float

    @property
    def scaled_up_OR(self) -> Any:
        """``up`` in fp32, the scaling inside."""
        return self.up_OR.float() * self.scaling


def refused_adapter(folder: Path, why: str) -> ModelInvalid:
    """An adapter that cannot be used, and why."""
    return ModelInvalid(
        f"the adapter in {folder.name} cannot be used on this base: {why}",
        "use a plain LoRA adapter (linear layers that every text passes through, PEFT format) that was trained on this base model",
        code="adapter_invalid",
    )


def unreadable_adapter(folder: Path, file: str) -> ModelInvalid:
    """An adapter of which ``file`` is missing or damaged."""
    return refused_adapter(folder, f"its {file} cannot be read")


def adapter_config(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` of a LoRA adapter; ``r``, ``lora_alpha`` and ``alpha_pattern`` are numbers.

    Raises ModelInvalid where it cannot be read, or sets what changes more than linear layers.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        rank, _ = int(config["r"]), float(config["lora_alpha"])
        # Matched in linear time, which takes nearly all patterns that PEFT takes.
        for pattern, own in (config.get("alpha_pattern") or {}).items():
            check_pattern(pattern)
            float(own)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, InvalidInput) as error:
        raise unreadable_adapter(folder, CONFIG_FILE) from error
    if rank < 1:
        raise refused_adapter(folder, "its rank is not positive")
    if config.get("peft_type") != "LORA":
        raise refused_adapter(folder, "it is not a LoRA adapter")
    if config.get("bias", "none") != "none":
        raise refused_adapter(folder, "it trains biases")
    for setting in _MUST_BE_UNSET:
        if config.get(setting):
            raise refused_adapter(folder, f"it uses {setting}")
    return config


def adapter_changes(folder: Path, tensors: Mapping[str, Any]) -> dict[str, AdapterChange]:
    """Changes by the path of their layer. Raises ModelInvalid as ``adapter_config``, and for what is no pair of matrices of one rank."""
    config = adapter_config(folder)
    pairs: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise refused_adapter(folder, f"it changes {key}, which is not a linear layer")
        pairs.setdefault(match[1], {})[match[2]] = tensor
    if not pairs:
        raise refused_adapter(folder, "it holds no tensors")
    for path, pair in pairs.items():
        if pair.keys() != {"A", "B"} or any(len(part.shape) != 2 for part in pair.values()):
            raise refused_adapter(folder, f"layer {path} has no two matrices")
    return {path: AdapterChange(pair["A"], pair["B"], _scaling(config, path, len(pair["A"]))) for path, pair in sorted(pairs.items())}


def check_fit(folder: Path, path: str, change: AdapterChange, sizes: tuple[int, int]) -> None:
    """Raises ModelInvalid unless ``change`` is one of a layer with these inputs and outputs."""
    rank, (inputs, outputs) = len(change.down_RI), sizes
    if not rank or tuple(change.down_RI.shape) != (rank, inputs) or tuple(change.up_OR.shape) != (outputs, rank):
        raise refused_adapter(folder, f"layer {path} has another shape than the base's {inputs} inputs and {outputs} outputs")


def _scaling(config: dict[str, Any], path: str, rank: int) -> float:
    """As PEFT finds it: of the first pattern that is the path or its end."""
    alpha = float(config["lora_alpha"])
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if matches(rf"(.*\.)?({pattern})", path):
            alpha = float(own)
            break
    return alpha / max(1.0, math.sqrt(rank) if config.get("use_rslora") else rank)
