"""Tensors of a LoRA adapter's file, as they lie there, and the changes that they make."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from tailorbird.base_models.adapter_format import TENSORS_FILE, AdapterChange, adapter_changes, unreadable_adapter


def read_changes(folder: Path) -> dict[str, AdapterChange]:
    """As ``adapter_changes``, of the adapter in ``folder``."""
    return adapter_changes(folder, adapter_tensors(folder))


#: Number formats of a safetensors file that adapters come in; whatever else there is, the library reads.
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """``adapter_model.safetensors``, by name; the tensors lie in the file. Raises ModelInvalid."""
    path = folder / TENSORS_FILE
    try:
        with safe_open(path, "pt"):  # the library checks the header; to make each tensor it takes three times as long as what follows
            mapped = _mapped(path)
        return load_file(path) if mapped is None else mapped
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise unreadable_adapter(folder, TENSORS_FILE) from error


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
