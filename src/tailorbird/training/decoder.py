"""The forward pass of decoders of the Llama kind, written out for packed rows.

transformers' own forward pass is made of many small operations; this one has few, shares what layers that read the same input can share,
and leaves out what no answer depends on: in the last layer, everything but keys and values of tokens that carry no loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding
from torch.utils.checkpoint import checkpoint

from tailorbird.training.elementwise import rms_norm, rotary_attention, swiglu
from tailorbird.training.fused_linears import Projection, projection
from tailorbird.training.packing import Packed

#: Model types whose layers are exactly: norm, attention with rotation, norm, SwiGLU.
_KINDS = {"llama", "mistral", "qwen2"}


def is_written_out(model: Any) -> bool:
    """True where ``Decoder`` computes what the model's own forward pass does."""
    config = model.config
    return (
        config.model_type in _KINDS
        and config.hidden_act == "silu"
        and not getattr(config, "sliding_window", None)
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    )


@dataclass(frozen=True)
class _Layer:
    """A decoder layer, its matrices joined where they read the same input."""

    modules: Any
    qkv: Projection
    o: Projection
    gate_up: Projection
    down: Projection


class Decoder:
    """The backbone of ``model``, computing in ``dtype`` whatever type its weights are held in."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model = model.get_decoder()
        self._dtype = dtype
        config = model.config
        self._width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._heads = (config.num_attention_heads, config.num_key_value_heads)
        self._found = _linear_layers(self._model)
        self._layers = [_join(layer, dtype) for layer in self._model.layers]

    @property
    def outdated(self) -> bool:
        """True when a layer was exchanged since this was made, for an adapted one."""
        return any(now is not then for now, then in zip(_linear_layers(self._model), self._found, strict=True))

    def __call__(self, packed: Packed, recompute: bool = False) -> torch.Tensor:
        """Hidden states (A, H) at ``packed.answers_A``, after the last norm.

        ``recompute`` keeps only the inputs of layers for the backward pass, which computes the rest again.
        """
        x_TH = embedding(packed.ids_1T[0], self._model.embed_tokens.weight)
        cos_1TD, sin_1TD = self._model.rotary_emb(x_TH.to(self._dtype), packed.positions_1T)
        angles = cos_1TD[0][:, None], sin_1TD[0][:, None]
        for layer in self._layers[:-1]:
            if recompute:
                x_TH = checkpoint(self._whole, layer, x_TH, angles, packed, use_reentrant=False, preserve_rng_state=False)
            else:
                x_TH = self._whole(layer, x_TH, angles, packed)
        return self._norm(self._model.norm, self._last(self._layers[-1], x_TH, angles, packed))

    def _whole(self, layer: _Layer, x_TH: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], packed: Packed) -> torch.Tensor:
        return self._mlp(layer, x_TH + self._attention(layer, x_TH, angles, packed, None))

    def _last(self, layer: _Layer, x_TH: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], packed: Packed) -> torch.Tensor:
        """A layer that no other follows: (A, H), for what predicts answers alone."""
        answers_A = packed.answers_A
        return self._mlp(layer, x_TH.index_select(0, answers_A) + self._attention(layer, x_TH, angles, packed, answers_A))

    def _attention(
        self, layer: _Layer, x_TH: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], packed: Packed, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """What a layer's attention adds, at the ``wanted`` positions or all."""
        qkv_TE = layer.qkv(self._norm(layer.modules.input_layernorm, x_TH))
        qkv_TND = qkv_TE.view(len(qkv_TE), -1, self._width)
        out_THD = rotary_attention(qkv_TND, angles, packed.tree, self._heads, self._width**-0.5)
        if wanted is not None:
            out_THD = out_THD.index_select(0, wanted)
        return layer.o(out_THD.flatten(1)).to(x_TH.dtype)

    def _mlp(self, layer: _Layer, x_TH: torch.Tensor) -> torch.Tensor:
        gate_up_TN = layer.gate_up(self._norm(layer.modules.post_attention_layernorm, x_TH))
        return x_TH + layer.down(swiglu(gate_up_TN)).to(x_TH.dtype)

    def _norm(self, norm: Any, x_TH: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = rms_norm(x_TH, norm.weight, norm.variance_epsilon, self._dtype)
        return normed


def _join(layer: Any, dtype: torch.dtype) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        modules=layer,
        qkv=projection([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        o=projection([attention.o_proj], dtype),
        gate_up=projection([mlp.gate_proj, mlp.up_proj], dtype),
        down=projection([mlp.down_proj], dtype),
    )


def _linear_layers(model: Any) -> list[nn.Module]:
    return [module for layer in model.layers for part in (layer.self_attn, layer.mlp) for module in part.children()]
