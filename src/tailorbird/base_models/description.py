"""Description of a base model: shape, parameters and licence, from its files or, before it is fetched, from its source."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tailorbird.base_models import hub_source
from tailorbird.base_models.local_source import job_for, licence_of
from tailorbird.base_models.model_cache import TEMPLATE_FILE, ModelCache, recorded_digests
from tailorbird.base_models.revision_pins import entry_of, pinned, pinned_name
from tailorbird.crypto.canonical_json import digest_bytes, digest_of, plain_json
from tailorbird.domain.base_model import BaseModelRef, CatalogueEntry, ModelSource
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.model_reader import ModelReader
from tailorbird.system.sandbox import call
from tailorbird.text.encoder_vectors import ENCODER_FILE, read_encoder

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

    Where config and headers show more than blocks of the Llama kind, all alike (other layers or norms, a cap on logits), ``open_reader``
    is asked. Raises ModelInvalid when config or weights are missing, unreadable, or neither tells the shape.
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


def describe_config(path: Path, name: str, open_reader: OpenReader) -> BaseModelRef:
    """Description of a decoder from the config or GGUF file ``path`` alone; digests are of its shape. Raises ModelInvalid."""
    shape = open_reader().describe(path)
    digest = digest_of(shape)
    return _described(plain_json(shape), path, name, "unknown", ModelDigests(tree=digest, tokenizer=digest, chat_template=digest))


#: What is told of a shape beside its layers.
_FACTS = ("parameters", "hidden", "layers", "vocabulary", "context", "intermediate")


def _shape_of(folder: Path, open_reader: OpenReader | None) -> dict[str, Any]:
    shape: dict[str, Any] = call(job_for(folder, f"{__name__}:shape"))
    if "told" not in shape and ("beside" not in shape or open_reader is None):
        return shape
    if open_reader is None:
        raise _undescribed(folder, shape["told"])
    return {**shape, **plain_json(open_reader().describe(folder)), "parameters": shape["parameters"]}


def shape(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: what the config and the headers of the weights say; ``told`` is why they do not tell all, ``beside`` what
    there is beside the linear layers of the Llama kind. Raises ModelInvalid."""
    folder = Path(given["folder"])
    config = _read_config(folder)
    tensors = dict(_tensors(folder))
    found: dict[str, Any] = {"parameters": sum(map(math.prod, tensors.values()))}
    if (folder / ENCODER_FILE).is_file():
        told = plain_json(read_encoder(folder))
        yield found | {"encoder": told.pop("description")} | told
        return
    try:
        layers = _linear_shapes(config)
        facts = {key: config[name] for key, name in _NAMES.items()}
    except (KeyError, TypeError, ZeroDivisionError) as error:
        yield {**found, "told": f"its config lacks {error}" if isinstance(error, KeyError) else "its config holds no sizes"}
        return
    found |= facts | {"linear_shapes": layers}
    if odd := _other_layer(tensors, layers, facts["layers"]):
        found["told"] = f"its blocks are of another kind ({odd})"
    elif beside := _beside(config, tensors):
        found["beside"] = beside
    yield found


#: Facts by the name that a config has for them.
_NAMES = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
    "intermediate": "intermediate_size",
}
_IN_BLOCK = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def _other_layer(tensors: dict[str, list[int]], layers: dict[str, tuple[int, int]], blocks: int) -> str | None:
    """The first matrix in a block that is none of the linear ``layers``; the name of what ``blocks`` blocks of these lack or exceed."""
    seen: Counter[str] = Counter()
    for tensor, sides in tensors.items():
        place = _IN_BLOCK.search(tensor)
        if place is None or len(sides) < 2:
            continue
        name = tensor.removesuffix(".weight").rpartition(".")[2]
        if int(place[1]) >= blocks or list(reversed(sides)) != list(layers.get(name, ())):
            return tensor
        seen[name] += 1
    return next((name for name in layers if seen and seen[name] != blocks), None)


#: Vectors of a Llama block that are no bias, and what a config may say of one, its tokens and its file without a change to what a pass
#: holds. A key that is not among these (a cap on logits, a scale, a kind of layer) is for the reader that builds the model.
_BLOCK_NORMS = {"input_layernorm", "post_attention_layernorm"}
_LLAMA_KEYS = frozenset(
    {*_NAMES.values(), "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "tie_word_embeddings"}
    | {"attention_bias", "attention_dropout", "mlp_bias", "pretraining_tp", "initializer_range", "rope_theta", "rope_scaling"}
    | {"rope_parameters", "rope_interleaved", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}
    | {"architectures", "model_type", "_name_or_path", "transformers_version", "transformers.js_config", "dtype", "torch_dtype"}
    | {"bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id", "problem_type", "is_encoder_decoder", "is_llama_config"}
    | {"use_cache", "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward"}
)


def _beside(config: dict[str, Any], tensors: dict[str, list[int]]) -> str | None:
    """The first tensor in a block, or key of the config, that a plain Llama lacks."""
    vectors = (name for name, sides in tensors.items() if len(sides) < 2 and _IN_BLOCK.search(name) and not name.endswith(".bias"))
    odd = next((name for name in vectors if name.removesuffix(".weight").rpartition(".")[2] not in _BLOCK_NORMS), None)
    return odd or next((key for key in config if key not in _LLAMA_KEYS), None)


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
    return _described(shape, folder, pinned_name(entry) if entry else name, entry.license if entry else "unknown", digests)


def count_parameters(folder: Path) -> int:
    """Number of parameters of the weights in ``folder``, in one file or several. Raises ModelInvalid when they cannot be read."""
    found = call(job_for(folder, f"{__name__}:parameters"))
    if type(found) is not int:
        raise ModelInvalid(f"{folder.name} has no readable weights", "pull the model again", code="model_weights")
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
        raise ModelInvalid(f"{path.parent.name} has no readable {path.name}", "pull the model again", code="model_weights") from error


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
        code="model_family",
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
