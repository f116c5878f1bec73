"""Linear layers that read the same input, computed as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

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
