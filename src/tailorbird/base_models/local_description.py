"""Description of a base model on this machine: a pulled one, a folder, or a config file without weights."""

from __future__ import annotations

from pathlib import Path

from tailorbird.base_models.description import ModelDigests, OpenReader, describe, describe_config
from tailorbird.base_models.local_source import check_code
from tailorbird.base_models.model_cache import ModelCache
from tailorbird.base_models.pull import find_local
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import ModelInvalid

#: Bytes of a config: those of published models have a few thousand.
_MOST = 4 << 20


def describe_local(name: str, cache: Path | ModelCache, open_reader: OpenReader) -> BaseModelRef:
    """The decoder called ``name``, or at that path: a folder with config.json, a config file, or a GGUF file. Where there are weights
    beside a config, their headers must agree with it. Nothing is downloaded, and nothing kept.

    Raises ModelInvalid: as ``find_local``, ``check_code`` and ``ModelReader.describe``.
    """
    found = find_local(name, cache)
    if found.suffix == ".gguf" and found.is_file():
        return describe_config(found, name, open_reader)
    config = found / "config.json" if found.is_dir() else found
    if config.suffix != ".json" or not config.is_file() or config.stat().st_size > _MOST:
        raise ModelInvalid(
            f"{name} is no config of a model",
            "give a folder with config.json in Hugging Face form, that file, or a .gguf file",
            code="model_config",
        )
    if found.is_file() or not any(found.glob("*.safetensors")):
        return describe_config(config, name, open_reader)
    check_code(found)
    digest = digest_bytes(config.read_bytes())
    base = describe(found, name, "unknown", ModelDigests(tree=digest, tokenizer=digest, chat_template=digest), open_reader)
    if base.encoder is not None:
        raise ModelInvalid(
            f"{name} is no decoder: it does not write text token by token",
            "use an instruct model; an encoder is for `kind: rank`, and for `encoder: {model}`",
            code="model_not_a_decoder",
        )
    return base
