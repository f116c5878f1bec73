"""Description of a base model: shape, parameters and licence, from its files or, before it is fetched, from its source."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tailorbird.base_models import sources as hub_source
from tailorbird.base_models.catalogue import entry_of, pinned
from tailorbird.base_models.encoder_vectors import ENCODER_FILE, read_encoder
from tailorbird.base_models.model_cache import TEMPLATE_FILE, ModelCache, recorded_digests
from tailorbird.base_models.sources import job_for, licence_of
from tailorbird.crypto.canonical_json import digest_bytes, digest_of, plain_json
from tailorbird.domain.base_model import BaseModelRef, CatalogueEntry, ModelSource
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ports.model_reader import ModelReader
from tailorbird.system.sandbox import call

_TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
    }
)
#: Longest safetensors header we read, in bytes; the format's own limit.
_HEADER_LIMIT = 100_000_000
#: Most dimensions of a tensor, as torch and NumPy have it.
_MOST_SIDES = 64


class ModelDigests(Value):
    """The digests that name a base model: its whole tree, its tokenizer's files, its chat template."""

    tree: Digest
    tokenizer: Digest
    chat_template: Digest


#: Opens the reader that knows every architecture: it takes seconds to load.
OpenReader = Callable[[], ModelReader]


def describe(folder: Path, name: str, license: str, digests: ModelDigests, open_reader: OpenReader | None = None) -> BaseModelRef:
    """Description of the model in ``folder``.

    A model of another type than Llama, Mistral and Qwen2 is described by ``open_reader``. Raises ModelInvalid when config or weights are
    missing, unreadable, or do not give the shape.
    """
    return _described(_shape_of(folder, open_reader), folder, name, license, digests)


def _described(shape: dict[str, Any], folder: Path, name: str, license: str, digests: ModelDigests) -> BaseModelRef:
    try:
        return BaseModelRef(
            name=name,
            digest=digests.tree,
            tokenizer_digest=digests.tokenizer,
            chat_template_digest=digests.chat_template,
            license=license,
            linear_shapes={layer: tuple(sizes) for layer, sizes in shape["linear_shapes"].items()},
            anatomy=shape.get("anatomy"),
            encoder=shape.get("encoder"),
            **{key: shape[key] for key in _FACTS},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _undescribed(folder, "its config says what no model can be") from error


#: Fields of a reference that a shape gives, beside its layers.
_FACTS = ("parameters", "hidden", "layers", "vocabulary", "context", "intermediate")
#: Model types whose config alone says what a plan needs: blocks of the Llama kind, all alike.
_PLAIN = frozenset({"llama", "mistral", "qwen2"})


def _shape_of(folder: Path, open_reader: OpenReader | None) -> dict[str, Any]:
    shape: dict[str, Any] = call(job_for(folder, f"{__name__}:shape"))
    if "linear_shapes" in shape:
        return shape
    if open_reader is None:
        raise _undescribed(folder, "it is not of the Llama kind")
    return {**plain_json(open_reader().describe(folder)), "parameters": shape["parameters"]}


def shape(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: parameters by the headers of the weights; sizes and linear layers of an encoder or a plain decoder. Raises
    ModelInvalid."""
    folder = Path(given["folder"])
    config = _read_config(folder)
    found: dict[str, Any] = {"parameters": sum(math.prod(sides) for _, sides in _tensors(folder))}
    if (folder / ENCODER_FILE).is_file():
        encoder = plain_json(read_encoder(folder))
        yield found | {"encoder": encoder.pop("description")} | encoder
        return
    if config.get("model_type") in _PLAIN:
        try:
            found |= {key: config[name] for key, name in _NAMES.items()} | {"linear_shapes": _linear_shapes(config)}
        except (KeyError, TypeError, ZeroDivisionError) as error:
            raise _undescribed(folder, "its config lacks sizes") from error
    yield found


#: Facts by the name that a config has for them.
_NAMES = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
    "intermediate": "intermediate_size",
}


def register_base(
    folder: Path,
    name: str,
    artifacts: ArtifactStore,
    pins: Path | None = None,
    *,
    public: bool = False,
    open_reader: OpenReader | None = None,
) -> BaseModelRef:
    """Puts the model in ``folder`` into the artifact store and describes it. ``pins`` is where names of the hub are pinned, if not beside
    ``folder``; a model of the catalogue is ``public``. Every byte is read: what another workspace converted is used only as it was
    converted. ``open_reader``: as of ``describe``.

    Raises Corrupt when a file is not what it was when the model was converted, ModelInvalid as ``describe``.
    """
    tree = artifacts.put_tree(folder, public=public)
    files = artifacts.tree(tree)
    recorded = recorded_digests(folder)
    if recorded is not None and recorded != files:
        changed = sorted(set(recorded.items()) ^ set(files.items()))
        raise Corrupt(
            f"{changed[0][0]} of the base model {name} was changed since it was converted",
            f"delete {folder} and pull the model again",
            code="model_corrupt",
        )
    shape = _shape_of(folder, open_reader)
    if TEMPLATE_FILE not in files and "encoder" not in shape:
        raise ModelInvalid(f"the base model {name} has no chat template", "use a model that was trained to chat", code="chat_template")
    tokenizer = digest_of({file: digest for file, digest in files.items() if file in _TOKENIZER_FILES})
    digests = ModelDigests(tree=tree, tokenizer=tokenizer, chat_template=files.get(TEMPLATE_FILE, digest_bytes(b"")))
    entry = entry_of(name, pins or folder.parent) or pinned(name, folder.parent)
    return _described(
        shape,
        folder,
        (f"hf://{entry.source.location}@{entry.source.version}" if entry.source.kind == "hub" else entry.name) if entry else name,
        entry.license if entry else "unknown",
        digests,
    )


def count_parameters(folder: Path) -> int:
    """Number of parameters of the weights in ``folder``, in one file or several. Raises ModelInvalid when they cannot be read."""
    found = call(job_for(folder, f"{__name__}:parameters"))
    if type(found) is not int:
        raise ModelInvalid(f"{folder.name} has no readable weights", "pull the model again", code="model_unreadable")
    return found


def parameters(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: how many numbers the weights hold. Raises ModelInvalid."""
    yield sum(math.prod(sides) for _, sides in _tensors(Path(given["folder"])))


def _tensors(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of each tensor."""
    for file in sorted(folder.glob("model*.safetensors")) or [folder / "model.safetensors"]:
        yield from _tensor_shapes(file).items()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(f"{folder.name} has no readable config.json", "pull the model again", code="model_config") from error
    if not isinstance(config, dict):
        raise ModelInvalid(f"{folder.name} has no readable config.json", "pull the model again", code="model_config")
    return config


def _tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Tensor name to shape, from the header of a safetensors file: 8 bytes little-endian length, then JSON."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _HEADER_LIMIT)))
        return {name: _sides(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, RecursionError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelInvalid(f"{path.parent.name} has no readable {path.name}", "pull the model again", code="model_unreadable") from error


def _sides(shape: Any) -> list[int]:
    """``shape`` as the format has it: whole numbers from 0 on, few of them. Raises ValueError for what else JSON may say, NaN among it."""
    if not isinstance(shape, list) or len(shape) > _MOST_SIDES or not all(type(side) is int and 0 <= side < 2**63 for side in shape):
        raise ValueError("no shape of a tensor")
    return shape


def _linear_shapes(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The linear layers of one decoder block of the Llama family, name to (inputs, outputs)."""
    hidden, intermediate, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head_size = config.get("head_dim") or hidden // heads
    queries, keys = heads * head_size, (config.get("num_key_value_heads") or heads) * head_size
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, intermediate),
        "up_proj": (hidden, intermediate),
        "down_proj": (intermediate, hidden),
    }


def _undescribed(folder: Path, why: str) -> ModelInvalid:
    return ModelInvalid(
        f"the model in {folder.name} cannot be described: {why}",
        "give a decoder in Hugging Face form whose architecture the installed transformers (tailorbird[local]) knows",
        code="model_unsupported",
    )


def known_facts(name: str, cache: Path | ModelCache) -> CatalogueEntry:
    """The entry of ``name``; of a local model its licence as its files name it, and its size where it is a folder of safetensors.

    A model of the hub that was not pulled before is asked for: raises ModelInvalid (no such model), Unavailable (no answer).
    """
    kept = hub_source.cache_for(name, ModelCache.of(cache))
    entry = entry_of(name, kept.own)
    if entry is not None:
        return entry
    if name.startswith(hub_source.PREFIX):
        return hub_source.resolve(name)
    path, licence, parameters = Path(name).expanduser(), "unknown", 0
    with suppress(ModelInvalid):
        licence = licence_of(path)
        parameters = count_parameters(path)
    source = ModelSource(kind="folder", location=name)
    return CatalogueEntry(name=name, title=name, license=licence, parameters=parameters, source=source)
