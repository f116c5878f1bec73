"""Parts of any decoder that transformers knows: its class, text config, blocks, linear layers, and a copy of its first layers."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from tailorbird.domain.errors import ModelInvalid

#: Most layers of a copy of the first ones.
_MOST_LAYERS = 12
#: Names that configs have for the number of experts in a layer, and for what divides them into groups.
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_ACTIVE = ("num_experts_per_tok", "top_k_experts", "moe_topk", "num_experts_per_token")
_GROUPS = ("n_group", "topk_group")


def model_class(config: Any) -> Any:
    """The class that reads ``config``: a decoder, or the multimodal model around one, as it was saved. Raises ModelInvalid."""
    kinds: list[Any] = [kind for kind in (AutoModelForCausalLM, AutoModelForImageTextToText) if type(config) in kind._model_mapping]
    saved = (config.architectures or [""])[0]
    kinds.sort(key=lambda kind: _mapped(kind, config) != saved)
    if not kinds:
        raise ModelInvalid(
            f"a model of type {config.model_type} is no decoder", "use an instruct model: a decoder", code="model_not_a_decoder"
        )
    return kinds[0]


def _mapped(kind: Any, config: Any) -> str:
    found = kind._model_mapping[type(config)]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def text_config(model: Any) -> Any:
    """The config of the decoder: the model's own, or that of its text part."""
    return model.config.get_text_config(decoder=True)


def blocks(model: Any) -> nn.ModuleList:
    """The decoder's blocks: the list of modules that holds most of its weights."""
    lists = [module for module in model.get_decoder().modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda found: sum(parameter.numel() for parameter in found.parameters()))


def context_of(config: Any) -> int | None:
    """Tokens that a decoder was made for; None where its config names no number."""
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(found) if found else None


def window_of(config: Any) -> int | None:
    """Tokens within which every token of a row sees all before it, and is turned as in any other row; None where that is always so."""
    text = config.get_text_config(decoder=True)
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    rope = getattr(text, "rope_parameters", None) or {}
    for one in rope.values() if rope and all(isinstance(part, dict) for part in rope.values()) else [rope]:
        if one.get("rope_type") in ("longrope", "dynamic"):
            windows.append(one.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None))
    return min((int(window) for window in windows if window), default=None)


def experts_met(model: Any) -> float:
    """Share of the experts of a layer that a token meets; 1 where there are none."""
    config = text_config(model)
    count, active = _first(config, _EXPERTS), _first(config, _ACTIVE)
    return min(1.0, active / count) if count and active else 1.0


def _first(config: Any, names: tuple[str, ...]) -> int:
    return next((int(found) for name in names if isinstance(found := getattr(config, name, None), int)), 0)


def first_layers(config: Any) -> Any:
    """A copy of ``config`` for a model of the first layers, as many as show each kind of layer once, two at least; experts are fewer."""
    made = copy.deepcopy(config)
    text = made.get_text_config(decoder=True)
    total = int(text.num_hidden_layers)
    kinds = {name: value for name, value in vars(text).items() if isinstance(value, list) and len(value) == total}
    layers = min(total, _MOST_LAYERS, max([2, 1 + int(getattr(text, "first_k_dense_replace", 0) or 0), *map(_shown, kinds.values())]))
    for name, value in kinds.items():
        setattr(text, name, value[:layers])
    if not any(name == "layers_block_type" for name in kinds):
        text.num_hidden_layers = layers
    _fewer_experts(text)
    return made


def _shown(kinds: list[Any]) -> int:
    """Length of the shortest beginning that holds every kind."""
    return max(kinds.index(kind) for kind in kinds) + 1


def _fewer_experts(text: Any) -> None:
    active = _first(text, _ACTIVE) or 1
    for name in _EXPERTS:
        if isinstance(getattr(text, name, None), int) and getattr(text, name) > 2 * active:
            setattr(text, name, 2 * active)
            for group in _GROUPS:
                if isinstance(getattr(text, group, None), int):
                    setattr(text, group, 1)
