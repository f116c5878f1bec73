"""Base models on this machine: a Hugging Face folder or a GGUF file, read by a confined process."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import ModelInvalid
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call

#: A header of weights of the largest size that the format allows takes less memory than this, and far less time.
_LOOKING = SandboxLimits(memory=3 << 30, processor=30, wait=80.0, output=16 << 20)


def job_for(folder: Path, target: str) -> SandboxJob:
    """Sandbox job that runs ``target`` on ``folder``; no tensor is loaded."""
    given = {"folder": str(folder.absolute())}
    return SandboxJob(target, given, _LOOKING, folder.name, ModelInvalid, (target.partition(":")[0],), broken="model_config")


_PICKLED = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
_FILES = {".safetensors", ".json", ".jinja", ".model", ".txt", ".gguf"}


def check_source(path: Path) -> None:
    """Raises ModelInvalid when ``path`` is neither a GGUF file nor a folder with safetensors and a plain config."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelInvalid(f"{path.name} is not a model file", "give a .gguf file or a folder with safetensors", code="model_source")
        return
    check_code(path)
    check_weights(path.name, {item.suffix for item in path.iterdir() if item.is_file()})


def check_code(folder: Path) -> None:
    """Raises ModelInvalid when the model in ``folder`` has no readable config, or one that asks to run code of its own."""
    call(job_for(folder, f"{__name__}:code"))


def code(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: as ``check_code``."""
    folder = Path(given["folder"])
    if "auto_map" in _read_json(folder, "config.json") or "auto_map" in _read_json(folder, "tokenizer_config.json", needed=False):
        raise ModelInvalid(
            f"the model in {folder.name} asks to run code of its own (auto_map)",
            "tailorbird never runs a model's own code: use a model whose architecture transformers knows",
            code="model_remote_code",
        )
    yield True


def check_weights(name: str, suffixes: Collection[str]) -> None:
    """Raises ModelInvalid when, of files with these ``suffixes``, none can hold weights, or only a pickle can."""
    if ".safetensors" in suffixes:
        return
    if not _PICKLED.isdisjoint(suffixes):
        raise ModelInvalid(
            f"the weights in {name} are pickled; loading them could run code",
            "convert the model to safetensors where you trust it, and give that folder",
            code="model_pickled",
        )
    raise ModelInvalid(f"there are no weights in {name}", "give a folder that holds *.safetensors", code="model_weights")


def _read_json(folder: Path, name: str, *, needed: bool = True) -> dict[str, Any]:
    path = folder / name
    if not path.is_file() and not needed:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(
            f"{folder.name} has no readable {name}", "give a model folder in Hugging Face form", code="model_config"
        ) from error
    return content if isinstance(content, dict) else {}


def source_id(path: Path) -> str:
    """Twelve hex digits of a hash over file names, sizes and modification times; contents are not read."""
    # Modules of an encoder lie in folders beside its config.
    found = [path] if path.is_file() else [item for item in (*path.iterdir(), *path.glob("*/*")) if item.suffix in _FILES]
    stats = {str(item.relative_to(path)): [item.stat().st_size, str(item.stat().st_mtime_ns)] for item in sorted(found)}
    return short(digest_of({"path": str(path.resolve()), "files": stats}))


def source_name(path: Path) -> str:
    """A short name for a local model, made from its path."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", path.resolve().stem.lower() if path.is_file() else path.resolve().name.lower())
    return plain.strip("._-")[:40] or "model"
