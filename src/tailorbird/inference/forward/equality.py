"""Equality test of the written-out pass with transformers' own, on an architecture's config with few, narrow, random layers.

This test, and no name, decides whether a model is computed by the written-out pass. Its verdict is kept by a digest of the config, of the
code and of the libraries' versions.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tailorbird.inference.forward import batch, decoder_traits, lazy_memory, torch_forward, weights
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.decoder_traits import HEAD_NORMS, MLP_NORMS, rope_settings
from tailorbird.inference.forward.torch_forward import TorchForward
from tailorbird.inference.forward.weights import GROUPS, MOVING
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.system.files import private_folder, user_cache

_log = logging.getLogger("tailorbird.engine")

#: Logits of fp32 may lie this far apart, as a part of their spread.
BOUND = 1e-3
#: The most layers that a test takes: an architecture that repeats itself later than this is computed by transformers.
_LAYERS = 8
_TOKENS = 40
#: Places by which the whole text is moved, and how far logits may move with it by the rounding of large angles.
_SHIFT, _MOVED = 1_000, 0.01
#: The setting that says where stretched positions begin.
_ORIGINAL = "original_max_position_embeddings"
#: Parts of a decoder block that the written-out pass computes.
_PARTS = frozenset({"input_layernorm", "post_attention_layernorm", "self_attn", "mlp", "mlp.act_fn"}).union(*GROUPS.values())


class EqualityVerdict(NamedTuple):
    """``off`` is how far the logits of the two lie apart, as a part of their spread; infinity where that was not seen. ``why_not`` says
    what keeps the written-out pass from being used, and is empty where it may be."""

    why_not: str
    off: float = 0.0


def compare(model: Any) -> EqualityVerdict:
    """The verdict on the architecture of ``model``."""
    why_not = _unlike(model)
    if why_not:
        return EqualityVerdict(why_not)
    depth = _depth(model.model.layers)
    if depth is None:
        return EqualityVerdict("its layers do not repeat themselves soon enough")
    return _kept(_key(model.config, depth), _Tested(model.config, depth))


def _unlike(model: Any) -> str:
    """What the model has that the written-out pass does not compute; empty where nothing is seen."""
    decoder = getattr(model, "model", None)
    layers, head = getattr(decoder, "layers", None), getattr(model, "lm_head", None)
    if layers is None or head is None or not hasattr(decoder, "rotary_emb") or not hasattr(decoder, "norm"):
        return "it is not laid out like a Llama"
    for layer in layers:
        parts = {name for name, _ in layer.named_modules() if name}
        if missing := _PARTS - {"mlp.act_fn"} - parts:
            return f"its blocks have no {sorted(missing)[0]}"
        heads = {f"self_attn.{name}" for name in HEAD_NORMS if getattr(layer.self_attn, name, None) is not None}
        weights = [getattr(layer.get_submodule(name), "weight", None) for name in heads]
        if any(weight is None or weight.shape != (layer.self_attn.head_dim,) for weight in weights):
            return "its queries and keys are normed in another way"
        behind = set(MLP_NORMS) if parts.issuperset(MLP_NORMS) else set()
        if more := parts - _PARTS - heads - behind:
            return f"its blocks have a {sorted(more)[0]}"
    if hasattr(model.config, "quantization_config"):
        return "its weights are quantised"
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if not kinds or not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return "its layers see neither the whole text nor a window of it"
    if any(each.get("rope_type") in MOVING for each in rope_settings(model.config)):
        return "its table of positions changes with the text"
    return ""


def _depth(layers: Any) -> int | None:
    """Layers to test: up to the first one of each kind, two at least."""
    kinds: list[Any] = []
    deepest = 1
    for at, layer in enumerate(layers):
        kind = _kind(layer)
        if kind not in kinds:
            kinds.append(kind)
            deepest = at
    return max(2, deepest + 1) if deepest < _LAYERS else None


def _kind(layer: Any) -> Any:
    """All settings of a layer and its parts, its place aside."""
    return [
        (name, type(part).__name__, {key: value for key, value in vars(part).items() if _is_setting(key, value)})
        for name, part in layer.named_modules()
    ]


def _is_setting(name: str, value: Any) -> bool:
    return not name.startswith("_") and name != "layer_idx" and isinstance(value, (bool, int, float, str, type(None)))


class _Tested(NamedTuple):
    """A config to test, and the layers that are taken of it."""

    config: Any
    depth: int

    def model(self) -> Any:
        """The architecture with narrow random layers."""
        made: Any = AutoModelForCausalLM
        config = self._narrow()
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = made.from_config(config, dtype=torch.float32).eval()
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
        return model

    def _narrow(self) -> Any:
        config = copy.deepcopy(self.config)
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        size = min(16, getattr(config, "head_dim", None) or 16)
        narrow = {
            "num_hidden_layers": self.depth,
            "vocab_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 4 if heads == groups else 2,
            "head_dim": size,
            "hidden_size": 4 * size,
            "intermediate_size": 48,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": None,
        }
        for name, value in vars(config).items():
            if isinstance(value, list) and len(value) == self.config.num_hidden_layers:
                narrow[name] = value[: self.depth]
        for name, value in narrow.items():
            setattr(config, name, value)
        # What begins beyond so many tokens begins within the test, and what ends.
        for setting in ("sliding_window", "attention_chunk_size"):
            if getattr(config, setting, None):
                setattr(config, setting, min(getattr(config, setting), _TOKENS // 4))
        for settings in (rope for rope in (*rope_settings(config), vars(config)) if rope):
            if settings.get(_ORIGINAL):
                settings[_ORIGINAL] = _TOKENS // 5
        return config

    @torch.inference_mode()
    def off(self) -> float:
        """How far the two lie apart: a text in three pieces, and as a whole."""
        model = self.model()
        forward = TorchForward(model)
        text = torch.randint(0, 64, (_TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
        memory, blocks, rows = forward.memory(4), [2, 0, 3], []
        for start, stop in ((0, _TOKENS - 3), (_TOKENS - 3, _TOKENS - 1), (_TOKENS - 1, _TOKENS)):
            rows.append(forward.hidden(build_batch([Part(None, text[start:stop], start, blocks, 0)]), memory))
        ours, ids = forward.logits(torch.cat(rows)), torch.tensor([text])
        theirs = model(input_ids=ids).logits[0]
        # Rotary positions are relative: what changes with the place of the whole text is nothing that is written out.
        shifted = model(input_ids=ids, position_ids=torch.arange(_TOKENS)[None] + _SHIFT).logits[0]
        moved = float((shifted - theirs).abs().max() / theirs.std())
        return max(float((ours - theirs).abs().max() / theirs.std()), moved if moved > _MOVED else 0.0)


def _key(config: Any, depth: int) -> str:
    told = json.dumps({name: value for name, value in config.to_dict().items() if name != "_name_or_path"}, sort_keys=True, default=str)
    code = b"".join(Path(str(room.__file__)).read_bytes() for room in (batch, decoder_traits, lazy_memory, torch_forward, weights))
    named = f"{told}\0{depth}\0{torch.__version__}\0{transformers.__version__}\0".encode() + code + Path(__file__).read_bytes()
    return hashlib.sha256(named).hexdigest()


def _kept(key: str, tested: _Tested) -> EqualityVerdict:
    """The verdict that was kept under ``key``, or a new one, which is kept."""
    place = folder()
    if place is None:
        return _verdict(key, tested)
    path = place / f"{key[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(path.read_text(encoding="utf-8"))
        return EqualityVerdict(str(told["why_not"]), float(told["off"]))
    verdict = _verdict(key, tested)
    if verdict.off == math.inf:
        return verdict  # what kept it from being tested, memory for instance, may not be there next time
    with suppress(OSError):
        private_folder(path.parent)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(verdict._asdict(), file)
        Path(file.name).replace(path)
    return verdict


_VERDICTS: dict[str, EqualityVerdict] = {}


def _verdict(key: str, tested: _Tested) -> EqualityVerdict:
    if key not in _VERDICTS:
        try:
            off = tested.off()
            _VERDICTS[key] = EqualityVerdict("" if off <= BOUND else f"its logits lie {off:.2g} of their spread apart", off)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being tested keeps it from being used
            _log.debug("the written-out pass could not be tested: %s", type(error).__name__)
            _VERDICTS[key] = EqualityVerdict(f"it could not be tested ({type(error).__name__})", math.inf)
    return _VERDICTS[key]


def folder() -> Path | None:
    """Where verdicts are kept; None where the user has no cache folder."""
    cache = user_cache()
    return cache / "architectures" if cache else None
