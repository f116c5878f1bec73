"""A linear layer with a low-rank adapter beside its frozen weight.

In: inputs of the layer. Out: ``W x + bias + scaling · B A x`` and the gradients of A and B. The frozen weight's gradient is never formed.
Must not know: which layers are adapted, how adapters are saved.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


class LowRankUpdate(torch.autograd.Function):
    """y = x Wᵀ + s · (x Aᵀ) Bᵀ, forward and backward as plain matmuls (LoRA, Hu et al. 2021, arXiv:2106.09685).

    A and B are fp32 and are multiplied in the type of ``x``. Only ``x``, ``x Aᵀ`` and the factors are kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x_TI: torch.Tensor, weight_OI: torch.Tensor, a_RI: torch.Tensor, b_OR: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """(T, I) to (T, O)."""
        a_RI, b_OR = a_RI.to(x_TI.dtype), b_OR.to(x_TI.dtype)
        low_TR = x_TI @ a_RI.T
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_OR, low_TR)
        ctx.scaling = scaling
        return (x_TI @ weight_OI.T).addmm_(low_TR, b_OR.T, alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, None, torch.Tensor, torch.Tensor, None]:
        """Gradients of x, A and B."""
        x_TI, weight_OI, a_RI, b_OR, low_TR = ctx.saved_tensors
        grad_TO = upstream[0]
        grad_low_TR = grad_TO @ b_OR
        grad_a_RI = (grad_low_TR.T @ x_TI).float().mul_(ctx.scaling)
        grad_b_OR = (grad_TO.T @ low_TR).float().mul_(ctx.scaling)
        # The first adapted layer stands behind frozen embeddings: nobody asks for its input's gradient.
        grad_x_TI = (grad_TO @ weight_OI).addmm_(grad_low_TR, a_RI, alpha=ctx.scaling) if ctx.needs_input_grad[0] else None
        return grad_x_TI, None, grad_a_RI, grad_b_OR, None


#: torch leaves ``Function.apply`` untyped.
_update: Any = LowRankUpdate.apply


class LoraLinear(nn.Module):
    """Stands in for ``linear``, whose weight and bias are frozen.

    ``A`` (rank, inputs) is drawn Kaiming-uniform, ``B`` (outputs, rank) starts at zero.
    """

    def __init__(self, linear: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scaling = scaling
        a_RI = torch.empty(rank, linear.in_features)
        nn.init.kaiming_uniform_(a_RI, a=math.sqrt(5))
        device = linear.weight.device
        self.A = nn.Parameter(a_RI.to(device))
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        y_TO: torch.Tensor = _update(x.flatten(0, -2), self.linear.weight, self.A, self.B, self.scaling)
        if self.linear.bias is not None:
            y_TO = y_TO + self.linear.bias
        return y_TO.view(*x.shape[:-1], -1)
