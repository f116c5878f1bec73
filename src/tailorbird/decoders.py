"""Parts of any decoder that transformers knows, for training and inference: its class, text config, blocks, the layers on which PEFT places
adapters, and a copy of its first layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from tailorbird.domain.errors import ModelInvalid

#: Most layers of a copy of the first ones.
_MOST_LAYERS = 12
#: Names that configs have for the number of experts in a layer, and for what divides them into groups.
EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
ACTIVE = ("num_experts_per_tok", "top_k_experts", "moe_topk", "num_experts_per_token")
_GROUPS = ("n_group", "topk_group")
#: Names that configs have for the number of heads, and for the groups of state-space heads.
_HEADS = ("num_attention_heads", "num_heads")
_HEAD_GROUPS = ("n_groups", "mamba_n_groups")
_STATE_HEADS = ("num_heads", "mamba_n_heads", "mamba_num_heads")
_LINEAR_HEADS = ("linear_num_key_heads", "linear_num_value_heads")
#: Ends of the names of sizes that grow with the width of the stream, and of those of feed-forward parts, which nothing else depends on.
_WIDTHS = ("hidden_size", "mamba_d_ssm", "mamba_n_heads")
_INNER = ("intermediate_size", "ffn_hidden_size", "ff_dim", "ffn_dim", "n_inner")
#: Kernels of experts want rows of whole blocks.
_BLOCK = 32
#: Names of the tokens that the first table of positions holds.
_TABLE = ("original_max_position_embeddings", "max_position_embeddings")
#: Names of the number of layers of a vision or audio tower.
_DEPTHS = ("num_hidden_layers", "depth", "num_layers")
#: What a tower's widths are divided by: no text passes through it.
_TOWER = 8


def model_class(config: Any, name: str = "the base model") -> Any:
    """The class that reads ``config``: a decoder, or the multimodal model around one. Raises ModelInvalid where it is neither."""
    text = config.get_text_config(decoder=True)
    if kinds := _decoder_classes(config):
        # Some configs are read as the text part alone or as the whole: as it was saved, for names of tensors differ.
        saved = (config.architectures or [""])[0]
        return min(kinds, key=lambda kind: _mapped(kind, config) != saved)
    raise ModelInvalid(
        f"{name} ({text.model_type}) is no decoder: it does not write text token by token",
        "use an instruct model; an encoder is for `kind: rank`, and for `encoder: {model}`",
        code="model_unsupported",
    )


def is_decoder(config: Any) -> bool:
    """True for a model that writes text token by token."""
    return bool(_decoder_classes(config))


def _decoder_classes(config: Any) -> list[Any]:
    if getattr(config, "is_encoder_decoder", False) or (
        getattr(config, "is_decoder", None) is False and any(kind.endswith("ForMaskedLM") for kind in _trained_as(config))
    ):
        return []
    return [kind for kind in (AutoModelForCausalLM, AutoModelForImageTextToText) if type(config) in kind._model_mapping]


def _mapped(kind: Any, config: Any) -> str:
    """The name of the class that ``kind`` makes of ``config``."""
    found = kind._model_mapping[type(config)]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def _trained_as(config: Any) -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    return [*(config.architectures or []), MASKED.get(config.model_type, "")]


def text_config(model: Any) -> Any:
    """The config of the decoder: the model's own, or that of its text part."""
    return model.config.get_text_config(decoder=True)


def blocks(model: Any) -> nn.ModuleList:
    """The decoder's blocks."""
    return largest_list(model.get_decoder())


def largest_list(model: Any) -> nn.ModuleList:
    """The list of modules that holds most of a model's weights: its blocks; empty where it has no list."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda found: sum(parameter.numel() for parameter in found.parameters()), default=nn.ModuleList())


def peft_targets(model: Any, names: Iterable[str]) -> set[str]:
    """Those of ``names`` on whose layers PEFT places adapters. Of a mixture it takes the names of some shared layers for those of experts,
    which are one tensor in transformers 5; and fused kernels of state-space blocks go past some layers."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba as check
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers as convert

    asked = LoraConfig(target_modules=sorted(names))
    try:
        convert(asked, model, None)
    except ValueError:
        return set()
    return {name for name in asked.target_modules or () if not _raises(check, asked, model, name)}


def _raises(check: Callable[..., object], *given: Any) -> bool:
    try:
        check(*given)
    except ValueError:
        return True
    return False


@torch.no_grad()
def next_token_nats(model: Any, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Log-probabilities (T, V) of the next token at each place of each row, as stock libraries compute them."""
    return [model.eval()(row, use_cache=False).logits[0].float().log_softmax(dim=-1) for row in rows]


def divergences(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> torch.Tensor:
    """KL(expected ‖ found) of the next token at each place, in nats."""
    parts = [(p_TV.exp() * (p_TV - q_TV)).sum(dim=-1) for p_TV, q_TV in zip(expected, found, strict=True)]
    return torch.cat(parts).clamp_min(0)


def context_of(config: Any) -> int | None:
    """Tokens that a decoder was made for; None where its config names no number."""
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(found) if found else None


def window_of(config: Any) -> int | None:
    """Tokens within which every token of a row sees all before it, and is turned as in any other row; None where that is always so."""
    text = config.get_text_config(decoder=True)
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((int(window) for window in (*windows, turning_of(config)) if window), default=None)


def turning_of(config: Any) -> int | None:
    """Tokens above which the longest row of a pass chooses the rotary factors of all its rows; None where factors are fixed."""
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    turned = [one for one in (rope, *rope.values()) if isinstance(one, dict) and one.get("rope_type") in ("longrope", "dynamic")]
    # The dynamic kind turns otherwise beyond the context that the model was made for, and names no other number.
    named = [getattr(text, name, None) for name in _TABLE] + [one.get(name) for one in turned for name in _TABLE]
    return min((int(tokens) for tokens in named if tokens), default=None) if turned else None


def experts_met(model: Any) -> float:
    """Share of the experts of a layer that a token meets; 1 where there are none."""
    config = text_config(model)
    count, active = first_size(config, EXPERTS), first_size(config, ACTIVE)
    return min(1.0, active / count) if count and active else 1.0


def first_size(config: Any, names: tuple[str, ...]) -> int:
    """The whole number that ``config`` has under the first of ``names`` that it knows; 0 where it knows none."""
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
    active = first_size(text, ACTIVE) or 1
    for name in EXPERTS:
        if isinstance(getattr(text, name, None), int) and getattr(text, name) > 2 * active:
            setattr(text, name, 2 * active)
            for group in _GROUPS:
                if isinstance(getattr(text, group, None), int):
                    setattr(text, group, 1)


def narrowed(config: Any, heads: int) -> Any:
    """A copy of ``config`` whose widths and number of heads are divided by one number, so that ``heads`` or a few more are left, each as
    wide as before; feed-forward parts are no wider than the stream. Towers beside the decoder have one narrow layer."""
    made = copy.deepcopy(config)
    text = made.get_text_config(decoder=True)
    before, hidden = first_size(text, _HEADS), int(text.hidden_size)
    factor = max((part for part in range(1, before // heads + 1) if before % part == 0 and hidden % part == 0), default=1)
    keys = vars(text).get("num_key_value_heads")
    for name, size in [*vars(text).items(), ("hidden_size", hidden)]:
        if type(size) is int and name.endswith((*_HEADS, *_WIDTHS)) and size >= factor:
            setattr(text, name, size // factor)
        elif type(size) is int and name.endswith(_INNER):
            setattr(text, name, max(_BLOCK, min(size, hidden) // factor // _BLOCK * _BLOCK))
    if isinstance(keys, int):
        # Key heads of ``left`` heads: all, several to a head, or one, as ``keys`` are to ``heads``.
        left = before // factor
        if keys in (1, before):
            text.num_key_value_heads = min(keys, left)
        else:
            text.num_key_value_heads = max(
                (part for part in range(1, max(2, left // 2) + 1) if left % part == 0 and part < left), default=1
            )
    _fewer_state_heads(text, factor)
    for name in made.sub_configs:
        if (tower := getattr(made, name, None)) is not None and tower is not text:
            _narrow_tower(tower)
    return made


def _fewer_state_heads(text: Any, factor: int) -> None:
    """Divides the heads of linear attention by what they share with ``factor``; groups of state-space heads are those that divide them."""
    linear = {name: size for name in _LINEAR_HEADS if isinstance(size := getattr(text, name, None), int)}
    for name, size in linear.items():
        setattr(text, name, size // math.gcd(factor, *linear.values()))
    for name in _HEAD_GROUPS:
        if isinstance(groups := getattr(text, name, None), int):
            setattr(text, name, math.gcd(groups, *(size for holder in _STATE_HEADS if (size := getattr(text, holder, None)))))


def _narrow_tower(tower: Any) -> None:
    for name, size in list(vars(tower).items()):
        if isinstance(size, list):
            setattr(tower, name, size[:1])
        elif isinstance(size, int) and name in (*_DEPTHS, *_HEADS, "num_key_value_heads"):
            setattr(tower, name, 1)
        elif isinstance(size, int) and name.endswith(("hidden_size", "intermediate_size")):
            setattr(tower, name, max(_BLOCK, size // _TOWER // _BLOCK * _BLOCK))
