"""Equality test of the written-out pass with transformers' own, on an architecture's config with few, narrow, random layers.

This test, and no name, decides whether a model is computed by the written-out pass.
"""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.decoder_traits import HEAD_NORMS, MLP_NORMS, rope_settings
from tailorbird.inference.forward.torch_forward import TorchForward
from tailorbird.inference.forward.weights import GROUPS, MOVING
from tailorbird.inference.transformers_verbosity import quiet

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


def compare(model: Any) -> str:
    """What keeps the written-out pass from being used for the architecture of ``model``; empty where it may be."""
    if why_not := _unlike(model):
        return why_not
    depth = _depth(model.model.layers)
    return _verdict(model.config, depth) if depth else "its layers do not repeat themselves soon enough"


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
        (
            name,
            type(part).__name__,
            {
                key: value
                for key, value in vars(part).items()
                if (not key.startswith("_") and key != "layer_idx" and isinstance(value, (bool, int, float, str, type(None))))
            },
        )
        for name, part in layer.named_modules()
    ]


@torch.inference_mode()
def _off(whole: Any, depth: int) -> float:
    """How far the two passes lie apart on ``depth`` narrow random layers of the config ``whole``."""
    config = copy.deepcopy(whole)
    size = min(16, getattr(config, "head_dim", None) or 16)
    narrow = {
        "num_hidden_layers": depth,
        "vocab_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 4 if config.num_attention_heads == config.num_key_value_heads else 2,
        "head_dim": size,
        "hidden_size": 4 * size,
        "intermediate_size": 48,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
    }
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == whole.num_hidden_layers:
            narrow[name] = value[:depth]
    for name, value in narrow.items():
        setattr(config, name, value)
    # What begins beyond so many tokens begins within the test, and what ends.
    for setting in ("sliding_window", "attention_chunk_size"):
        if getattr(config, setting, None):
            setattr(config, setting, min(getattr(config, setting), _TOKENS // 4))
    for settings in (rope for rope in (*rope_settings(config), vars(config)) if rope):
        if settings.get(_ORIGINAL):
            settings[_ORIGINAL] = _TOKENS // 5
    made: Any = AutoModelForCausalLM
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = made.from_config(config, dtype=torch.float32).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
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


#: By config and depth, while the process lives.
_VERDICTS: dict[str, str] = {}


def _verdict(config: Any, depth: int) -> str:
    told = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
    key = json.dumps([told, depth], sort_keys=True, default=str)
    if key not in _VERDICTS:
        try:
            off = _off(config, depth)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being tested keeps it from being used
            _log.debug("the written-out pass could not be tested: %s", type(error).__name__)
            # Not kept: what kept it from being tested, memory for instance, may not be there next time.
            return f"it could not be tested ({type(error).__name__})"
        _VERDICTS[key] = "" if off <= BOUND else f"its logits lie {off:.2g} of their spread apart"
    return _VERDICTS[key]
