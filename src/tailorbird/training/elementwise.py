"""Norms, gates and rotations of a decoder, each with its backward pass written out."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import silu

from tailorbird.training.tree_attention import AttentionState, AttentionTree, attend, attend_backward


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
