"""Llama-style decoder for packed rows: norms, SwiGLU, rotary attention and fused linear layers with explicit backward passes.

transformers' own forward pass is made of many small operations; this one has few, shares what layers that read the same input can share,
and leaves out what no answer depends on: in the last layer, everything but keys and values of tokens that carry no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, silu
from torch.utils.checkpoint import checkpoint

from tailorbird.training.architecture import text_config
from tailorbird.training.batches import Packed
from tailorbird.training.tree_attention import AttentionState, AttentionTree, attend, attend_backward

#: (T, inputs) to (T, the outputs of all layers).
Projection = Callable[[torch.Tensor], torch.Tensor]


def projection(layers: Sequence[nn.Module], dtype: torch.dtype) -> Projection:
    """``layers`` as one, computed in ``dtype``."""
    kind: Any = type(layers[0])
    if all(type(layer) is kind for layer in layers) and hasattr(kind, "joined"):
        joined: Projection = kind.joined(layers)
        return joined
    return lambda x_TI: torch.cat([_apply(layer, x_TI, dtype) for layer in layers], dim=-1)


def _apply(layer: Any, x_TI: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    y_TO: torch.Tensor = layer(x_TI) if type(layer) is not nn.Linear else _rounded_product(x_TI, layer.weight, dtype)
    return y_TO if type(layer) is not nn.Linear or layer.bias is None else y_TO + layer.bias.to(dtype)


class RoundedProduct(torch.autograd.Function):
    """x Wᵀ with W rounded to ``dtype`` for the product, forward and backward.

    Autograd would keep every rounded weight until the backward pass: in full fine-tuning half of what the weights take. Rounding again is
    cheap beside the product.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, weight_OI: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(T, I) to (T, O)."""
        ctx.save_for_backward(x_TI, weight_OI)
        ctx.dtype = dtype
        return x_TI @ weight_OI.to(dtype).T

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """Gradients of x, and of the weight where it is trained."""
        x_TI, weight_OI = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        grad_x_TI = upstream[0] @ weight_OI.to(ctx.dtype) if needs_x else None
        grad_OI = (upstream[0].T @ x_TI).to(weight_OI.dtype) if needs_weight else None
        return grad_x_TI, grad_OI, None


#: torch leaves ``Function.apply`` untyped.
_rounded_product: Any = RoundedProduct.apply


class RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) · weight over the last axis (Zhang & Sennrich 2019), rounded as transformers rounds it.

    Statistics in fp32, the result in ``dtype``; ``x`` keeps its own type.
    """

    @staticmethod
    def forward(ctx: Any, x_TH: torch.Tensor, weight_H: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        """(T, H) to (T, H)."""
        scale_T1 = torch.linalg.vector_norm(x_TH, dim=-1, keepdim=True, dtype=torch.float32)
        scale_T1 = scale_T1.square_().div_(x_TH.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_TH, weight_H, scale_T1)
        normed_TH: torch.Tensor = (x_TH.float() * scale_T1).to(dtype) * weight_H.to(dtype)
        return normed_TH

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """Gradients of x and, where it is trained, the weight."""
        x_TH, weight_H, scale_T1 = ctx.saved_tensors
        x32_TH, grad_TH = x_TH.float(), upstream[0].float()
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        grad_weight_H = (grad_TH * x32_TH).mul_(scale_T1).sum(0).to(weight_H.dtype) if needs_weight else None
        if not needs_x:
            return None, grad_weight_H, None, None
        # dx = s · gw - x · s³ · mean(gw · x), where gw = gradient · weight and s = 1 / rms.
        gw_TH = grad_TH * weight_H.float()
        inner_T1 = (gw_TH * x32_TH).mean(-1, keepdim=True).mul_(scale_T1.pow(3))
        return gw_TH.mul_(scale_T1).sub_(x32_TH.mul_(inner_T1)).to(x_TH.dtype), grad_weight_H, None, None


class SwiGlu(torch.autograd.Function):
    """silu(gate) · up (Shazeer 2020), from both side by side: (T, 2M) to (T, M)."""

    @staticmethod
    def forward(ctx: Any, both_TN: torch.Tensor) -> torch.Tensor:
        """Keeps what came in, and nothing else."""
        ctx.save_for_backward(both_TN)
        gate_TM, up_TM = both_TN.chunk(2, dim=-1)
        return silu(gate_TM).mul_(up_TM)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> torch.Tensor:
        """The gradient of both."""
        (both_TN,) = ctx.saved_tensors
        gate_TM, up_TM = both_TN.chunk(2, dim=-1)
        grad_TN = torch.empty_like(both_TN)
        grad_gate_TM, grad_up_TM = grad_TN.chunk(2, dim=-1)
        torch.mul(upstream[0], silu(gate_TM), out=grad_up_TM)
        torch.ops.aten.silu_backward(upstream[0] * up_TM, gate_TM, grad_input=grad_gate_TM)
        return grad_TN


class RotaryAttention(torch.autograd.Function):
    """Rotates queries and keys by their positions (Su et al. 2021) and attends over the tree.

    ``qkv_TND`` holds the heads of queries, keys and values one after the other; out come (T, query heads, D).
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv_TND: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        tree: AttentionTree,
        heads: tuple[int, int],
        scale: float,
    ) -> torch.Tensor:
        """``angles`` are cosine and sine, (T, 1, D); ``heads`` counts query and key heads."""
        turned_TND = torch.empty_like(qkv_TND)
        turning = sum(heads)
        _rotate(qkv_TND[:, :turning], angles[0], angles[1], turned_TND[:, :turning])
        turned_TND[:, turning:] = qkv_TND[:, turning:]
        q, k, v = torch.split(turned_TND, [heads[0], heads[1], heads[1]], dim=1)
        out_THD, kept = attend(q, k, v, tree, scale, ctx.needs_input_grad[0])
        ctx.save_for_backward(turned_TND, *angles, *kept)
        ctx.tree, ctx.heads, ctx.scale = tree, heads, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """The gradient of all heads; turning back is turning by the negative angle."""
        turned_TND, cos_T1D, sin_T1D, *kept = ctx.saved_tensors
        sizes = [ctx.heads[0], ctx.heads[1], ctx.heads[1]]
        q, k, v = torch.split(turned_TND, sizes, dim=1)
        found = AttentionState(ctx.tree, ctx.scale, tuple(kept))
        grad_q_THD, grad_k, grad_v = attend_backward(q, k, v, upstream[0], found)
        grad_TND = torch.empty_like(turned_TND)
        into_q, into_k, into_v = torch.split(grad_TND, sizes, dim=1)
        _rotate(grad_q_THD, cos_T1D, -sin_T1D, into_q)
        _rotate(grad_k.to(grad_TND.dtype), cos_T1D, -sin_T1D, into_k)
        into_v.copy_(grad_v)
        return grad_TND, None, None, None, None


def _rotate(x_TND: torch.Tensor, cos_T1D: torch.Tensor, sin_T1D: torch.Tensor, out_TND: torch.Tensor) -> None:
    """out = x · cos + (-x₂, x₁) · sin, where x₁ and x₂ are the halves of each head."""
    half = x_TND.shape[-1] // 2
    torch.mul(x_TND, cos_T1D, out=out_TND)
    out_TND[..., :half].addcmul_(x_TND[..., half:], sin_T1D[..., :half], value=-1)
    out_TND[..., half:].addcmul_(x_TND[..., :half], sin_T1D[..., half:])


# torch leaves ``Function.apply`` untyped.
rms_norm: Any = RmsNorm.apply
swiglu: Any = SwiGlu.apply
rotary_attention: Any = RotaryAttention.apply


def is_written_out(model: Any) -> bool:
    """True where ``Decoder`` finds every part that it computes with. Whether it computes what the model does, a proof decides."""
    try:
        layers = model.get_decoder().layers
        parts = [(layer.input_layernorm.variance_epsilon, layer.post_attention_layernorm.variance_epsilon) for layer in layers]
        Decoder(model, torch.float32)
    except (AttributeError, TypeError, NotImplementedError):
        return False
    return bool(parts)


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
        config = text_config(model)
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
