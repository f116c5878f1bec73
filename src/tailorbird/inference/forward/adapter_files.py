"""Files of a LoRA adapter in PEFT format: its config and tensors, read and refused alike for every forward pass."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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


#: Number formats of a safetensors file that adapters come in; whatever else there is, the library reads.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """``adapter_model.safetensors``, by name; the tensors lie in the file. Raises ModelInvalid."""
    path = folder / "adapter_model.safetensors"
    try:
        with safe_open(path, "pt"):  # the library checks the header; to make each tensor it takes three times as long as what follows
            mapped = _mapped(path)
        return load_file(path) if mapped is None else mapped
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise refused_adapter(folder, "its adapter_model.safetensors cannot be read") from error


def _mapped(path: Path) -> dict[str, torch.Tensor] | None:
    """Tensors as they lie in a file of the format (eight bytes: the length of the header; JSON: shapes and places behind it; the numbers);
    None where it holds another number format, or a tensor without numbers. Raises ValueError: a place is none."""
    with path.open("rb") as file:
        # Ours to write to, which nobody does and torch asks for; the file stays as it is.
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    size = int.from_bytes(whole[:8], "little")
    header: dict[str, Any] = json.loads(whole[8 : 8 + size])
    header.pop("__metadata__", None)
    found = {}
    for name, told in header.items():
        dtype, (start, stop) = _DTYPES.get(told["dtype"]), told["data_offsets"]
        if dtype is None or start == stop:
            return None
        numbers = torch.frombuffer(whole, dtype=dtype, count=(stop - start) // dtype.itemsize, offset=8 + size + start)
        found[name] = numbers.view(told["shape"])
    return found
