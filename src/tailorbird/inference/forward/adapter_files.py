"""Files of a LoRA adapter in PEFT format: its config and tensors, read and refused alike for every forward pass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.text.regex import check_pattern, matches


def refused_adapter(folder: Path, why: str) -> ModelInvalid:
    """An adapter that cannot be served, and why."""
    return ModelInvalid(
        f"the adapter in {folder.name} cannot be served on this base: {why}",
        "use a plain LoRA adapter (linear layers of the decoder, PEFT format) that was trained on this base model",
        code="adapter_invalid",
    )


def adapter_config(folder: Path, must_be_unset: Sequence[str]) -> dict[str, Any]:
    """``adapter_config.json`` of a LoRA adapter; ``r`` and ``lora_alpha`` are numbers.

    Raises ModelInvalid where it cannot be read, or sets one of ``must_be_unset``, which change what an adapter computes.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank, _ = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise refused_adapter(folder, "its adapter_config.json cannot be read") from error
    if rank < 1:
        raise refused_adapter(folder, "its rank is not positive")
    if config.get("peft_type") != "LORA":
        raise refused_adapter(folder, "it is not a LoRA adapter")
    if config.get("bias", "none") != "none":
        raise refused_adapter(folder, "it trains biases")
    for setting in must_be_unset:
        if config.get(setting):
            raise refused_adapter(folder, f"it uses {setting}")
    return config


def check_patterns(folder: Path, config: dict[str, Any]) -> None:
    """Raises ModelInvalid for names that are none: patterns are matched in linear time, which takes nearly all that PEFT takes."""
    patterns, targets = config.get("alpha_pattern") or {}, config.get("target_parameters") or []
    try:
        for pattern, own in patterns.items():
            check_pattern(pattern)
            float(own)
        known = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    except (AttributeError, TypeError, ValueError, InvalidInput) as error:
        raise refused_adapter(folder, "its alpha_pattern cannot be read") from error
    if not known:
        raise refused_adapter(folder, "its target_parameters cannot be read")


def scaling_of(config: dict[str, Any], name: str, rank: int) -> float:
    """Scaling of the change of ``rank`` of the layer ``name``, as PEFT finds it: the first pattern whose key is the path or its end."""
    alpha = float(config["lora_alpha"])
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if matches(rf"(.*\.)?({pattern})", name):
            alpha = float(own)
            break
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """``adapter_model.safetensors``, by name. Raises ModelInvalid."""
    try:
        return load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise refused_adapter(folder, "its adapter_model.safetensors cannot be read") from error
