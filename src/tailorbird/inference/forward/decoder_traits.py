"""What the written-out passes read off a transformers model, beside the weights of its linear layers: norms, windows, positions, scales."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache
from transformers.activations import ACT2FN

#: Norms of each query and each key, in the attention of a decoder block that has them.
HEAD_NORMS = ("q_norm", "k_norm")
#: Norms before and behind the MLP, in a block whose norm behind attention is not the one before the MLP.
MLP_NORMS = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


class BlockNorms(NamedTuple):
    """Weights (fp32) of the norms of a decoder block: before attention and behind it, before the MLP and behind it, of each query and of
    each key before they are turned. None: there is no such norm."""

    attention: torch.Tensor
    attention_after: torch.Tensor | None
    mlp: torch.Tensor
    mlp_after: torch.Tensor | None
    query: torch.Tensor | None
    key: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(norm.nbytes for norm in self if norm is not None)


class Positions(NamedTuple):
    """Cosines and sines (context x head size, fp32) of every position."""

    cos_PD: torch.Tensor
    sin_PD: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.cos_PD.nbytes + self.sin_PD.nbytes


class DecoderTraits(NamedTuple):
    """What a model does beside its linear layers. ``embedding_scale`` multiplies embeddings, ``attention_scale`` scores; ``windows`` says
    of each layer how many tokens a token sees, itself included (0: all); ``positions`` are tables, of which each layer has the one that
    ``tables`` says."""

    embedding_scale: float
    attention_scale: float
    activation: Any
    windows: tuple[int, ...]
    positions: tuple[Positions, ...]
    tables: tuple[int, ...]


def traits_of(model: Any) -> DecoderTraits:
    """What ``model`` does, as far as it is laid out like a Llama."""
    config, block = model.config, model.model.layers[0]
    name = activation_of(config)
    # Which kind of positions each layer has; None where all have one.
    if "layer_type" not in inspect.signature(model.model.rotary_emb.forward).parameters:
        kinds = [None] * model.config.num_hidden_layers
    else:
        kinds = list(model.config.layer_types)[: model.config.num_hidden_layers]
    distinct = list(dict.fromkeys(kinds))
    return DecoderTraits(
        embedding_scale=float(getattr(model.get_input_embeddings(), "embed_scale", 1.0)),
        attention_scale=float(getattr(block.self_attn, "scaling", None) or block.self_attn.head_dim**-0.5),
        activation=getattr(block.mlp, "act_fn", None) or ACT2FN[name],
        windows=tuple(window_of(layer) for layer in DynamicCache(config=config).layers[: config.num_hidden_layers]),
        positions=tuple(_tables(model, kind) for kind in distinct),
        tables=tuple(distinct.index(kind) for kind in kinds),
    )


def activation_of(config: Any) -> str:
    """What opens the gate of an MLP, as transformers calls it."""
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def window_of(cached: Any) -> int:
    """How many tokens a token of the layer with the cache ``cached`` sees, itself included; 0: all."""
    return int(getattr(cached, "sliding_window", None) or 0)


def rope_settings(config: Any) -> list[dict[str, Any]]:
    """The settings of a config's rotary positions: of all layers, or of each kind of layer."""
    told = getattr(config, "rope_parameters", None) or {}
    apart = [each for each in told.values() if isinstance(each, dict)]
    return apart or [told]


def block_norms(layer: Any) -> BlockNorms:
    """The norms of a decoder block."""
    heads = (_weight(getattr(layer.self_attn, name, None)) for name in HEAD_NORMS)
    before, after = layer.input_layernorm, layer.post_attention_layernorm
    if hasattr(layer, MLP_NORMS[0]):
        behind = (getattr(layer, name) for name in MLP_NORMS)
        return BlockNorms(norm_weight(before), norm_weight(after), *map(norm_weight, behind), *heads)
    return BlockNorms(norm_weight(before), None, norm_weight(after), None, *heads)


def norm_weight(norm: Any) -> torch.Tensor:
    """What a norm multiplies with (fp32): its weight, or as much more than one as its weight says."""
    weight: torch.Tensor = norm.weight.detach().float()
    with torch.inference_mode():
        found = norm(torch.ones(1, len(weight), device=weight.device, dtype=norm.weight.dtype))[0].float()
    return weight if (found - weight).abs().sum() <= (found - weight - 1).abs().sum() else weight + 1


def _weight(norm: Any) -> torch.Tensor | None:
    return None if norm is None else norm_weight(norm)


def _tables(model: Any, kind: str | None) -> Positions:
    """By transformers' own embedding."""
    positions = torch.arange(model.config.max_position_embeddings, device=model.device).unsqueeze(0)
    told = () if kind is None else (kind,)
    cos, sin = model.model.rotary_emb(torch.zeros(1, 1, device=model.device), positions, *told)
    return Positions(cos[0].float().contiguous(), sin[0].float().contiguous())
