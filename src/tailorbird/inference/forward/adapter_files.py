"""Files of a LoRA adapter in PEFT format: its config and tensors, read and refused alike for every forward pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tailorbird.domain.errors import ModelInvalid


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


def adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """``adapter_model.safetensors``, by name. Raises ModelInvalid."""
    try:
        return load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise refused_adapter(folder, "its adapter_model.safetensors cannot be read") from error
