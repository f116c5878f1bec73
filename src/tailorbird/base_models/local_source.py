"""Base models on this machine: a Hugging Face folder or a GGUF file, read by a confined process."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
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


#: Bytes that are read of a file for a licence: licence texts are shorter, and keys of a GGUF file that concern the whole of it come first.
_MOST = 1 << 16
_NAME = re.compile(r"(?!other$)[A-Za-z0-9][\w.+-]{0,60}", re.ASCII)
_IN_CARD = re.compile(r"^licen[cs]e(?:_name)?:[ \t]*(?:\n[ \t]*-[ \t]*)?[\"']?([^\s\"'#]+)", re.MULTILINE)
_IN_GGUF = struct.pack("<Q", 15) + b"general.license" + struct.pack("<I", 8)
#: First and last words of what a licence grants, and the most letters of its text: one with a clause more is another licence.
_GRANTS = (
    ("apache-2.0", "apache license version 2.0", "end of terms and conditions", 12_000),
    ("mit", "permission is hereby granted, free of charge", "dealings in the software.", 1_500),
    ("bsd-3-clause", "redistribution and use in source and binary forms", "possibility of such damage.", 2_000),
)
_TITLES = re.compile(
    r"(?:attribution(?P<cc>[a-z-]*) (?P<of_cc>\d\.\d) inter|llama (?P<llama>\d(\.\d)?) community|(?P<gemma>gemma) terms of use)"
)
_SHORT = {"noncommercial": "nc", "sharealike": "sa", "noderivatives": "nd"}


def licence_of(path: Path) -> str:
    """Licence of the model in the folder, or GGUF file, ``path``, as its card, its config or its licence's text names it; or "unknown"."""
    return str(call(job_for(path, f"{__name__}:licence")))


def licence(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: as ``licence_of``."""
    path = Path(given["folder"])
    names = [_of_gguf(path)] if path.is_file() else [*_of_card(path), _of_config(path), *map(_of_text, sorted(path.iterdir()))]
    yield next((name for name in names if _NAME.fullmatch(name)), "unknown")


def _head(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(_MOST).decode("utf-8", errors="replace").replace("\r\n", "\n")


def _of_gguf(path: Path) -> str:
    with path.open("rb") as stream:
        value = stream.read(_MOST).partition(_IN_GGUF)[2]
    return value[8 : 8 + int.from_bytes(value[:8], "little")].decode("ascii", errors="replace")


def _of_card(folder: Path) -> list[str]:
    front = re.match(r"---\s*\n(.*?)\n---", _head(folder / "README.md"), re.DOTALL)
    return _IN_CARD.findall(front[1]) if front else []


def _of_config(folder: Path) -> str:
    with suppress(ValueError, RecursionError, AttributeError):
        return str(json.loads(_head(folder / "config.json")).get("license", ""))
    return ""


def _of_text(path: Path) -> str:
    """Of a file of that name, the licence that its text is, word by word or by its title."""
    text = " ".join(_head(path).lower().split()) if re.match(r"(licen[cs]e|copying)\b", path.name.lower()) else ""
    for name, first, last, most in _GRANTS:
        grant = text[text.find(first) : text.rfind(last) + len(last)]
        whole = name == "apache-2.0" or text.endswith(last)
        if whole and text.find(first) in range(400) and 0 < len(grant) < most and "advertising" not in grant:
            return name if "neither the name" in grant else name.replace("3", "2")
    found = _TITLES.search(text[:400])
    if found is None:
        return ""
    if found["of_cc"]:
        return "-".join(_SHORT.get(part, part) for part in f"cc-by{found['cc']}-{found['of_cc']}".split("-"))
    return found["gemma"] or f"llama{found['llama']}"
