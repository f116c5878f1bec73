"""Variants of a LoRA adapter that lack a part, as a wrong mapping would leave it out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tailorbird.system.tensor_header import tensor_spans

#: The file of tensors in PEFT's format.
_TENSORS = "adapter_model.safetensors"
#: What stands in a tensor's name between its module and its half of the product.
_HALF = ".lora_B."


def module_kinds(adapter: Path) -> tuple[str, ...]:
    """Kinds of modules that an adapter changes (``q_proj``, ``down_proj``, …), sorted; none where its tensors are not in PEFT's format."""
    return tuple(sorted({_kind(name) for name in _halves(adapter)}))


def without(adapter: Path, target: Path, drops: Callable[[str], bool]) -> Path:
    """A copy in ``target`` in which the modules whose names ``drops`` takes do nothing: their B is zero."""
    shutil.copytree(adapter, target, copy_function=shutil.copyfile)  # artifacts are read-only, and a copy would be, too
    with (target / _TENSORS).open("r+b") as file:
        for name, (start, end) in _halves(adapter).items():
            if drops(name.partition(_HALF)[0]):
                file.seek(start)
                file.write(bytes(end - start))
    return target


def without_kind(adapter: Path, target: Path, kind: str) -> Path:
    """A copy in ``target`` without the modules of one kind."""
    return without(adapter, target, lambda module: module.rpartition(".")[2] == kind)


def _halves(adapter: Path) -> dict[str, tuple[int, int]]:
    try:
        spans = tensor_spans(adapter / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: span for name, span in spans.items() if _HALF in name}


def _kind(name: str) -> str:
    return name.partition(_HALF)[0].rpartition(".")[2]
