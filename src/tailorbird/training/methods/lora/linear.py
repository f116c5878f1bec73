"""A linear layer with a low-rank adapter beside its frozen weight, and several that read the same input computed as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


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

    def weight(self) -> torch.Tensor:
        """The frozen weight (outputs, inputs) in the type it is multiplied in."""
        return self.linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        return JoinedLora([self])(x.flatten(0, -2)).view(*x.shape[:-1], -1)

    @staticmethod
    def joined(layers: Sequence[LoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
        """``layers`` that read the same input, as one. Plain weights are laid end to end, and the layers keep views of them."""
        together = JoinedLora(layers)
        if len(layers) > 1 and all(type(layer.linear) is nn.Linear for layer in layers):
            together.lay_end_to_end()
        return together


class JoinedLora:
    """Adapted layers that read the same input: (T, inputs) to (T, the outputs of all)."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = layers
        self.scalings = [layer.scaling for layer in layers]
        self._weight_OI: torch.Tensor | None = None

    def lay_end_to_end(self) -> None:
        """Makes one matrix of the frozen weights, so that they are multiplied at once."""
        self._weight_OI = torch.cat([layer.weight() for layer in self.layers])
        parts = torch.split(self._weight_OI, [layer.weight().shape[0] for layer in self.layers])
        for layer, part_OI in zip(self.layers, parts, strict=True):
            layer.linear.weight.data = part_OI

    def weight(self) -> torch.Tensor:
        """The frozen weights, one below the other."""
        if self._weight_OI is not None:
            return self._weight_OI
        if len(self.layers) == 1:
            return self.layers[0].weight()
        return torch.cat([layer.weight() for layer in self.layers])

    def __call__(self, x_TI: torch.Tensor) -> torch.Tensor:
        """W x + bias + scaling · B A x of each layer, side by side."""
        return self.with_bias(self.without_bias(x_TI))

    def without_bias(self, x_TI: torch.Tensor) -> torch.Tensor:
        """W x + scaling · B A x of each layer, side by side."""
        factors = [factor for layer in self.layers for factor in (layer.A, layer.B)]
        y_TO: torch.Tensor = _update(x_TI, self, *factors)
        return y_TO

    def with_bias(self, y_TO: torch.Tensor) -> torch.Tensor:
        """The biases of all layers added, where there are any."""
        if any(layer.linear.bias is not None for layer in self.layers):
            y_TO = y_TO + torch.cat([_bias(layer) for layer in self.layers]).to(y_TO.dtype)
        return y_TO


def _bias(layer: LoraLinear) -> torch.Tensor:
    bias: torch.Tensor | None = layer.linear.bias
    return torch.zeros(layer.linear.out_features, device=layer.A.device) if bias is None else bias


class LowRankUpdate(torch.autograd.Function):
    """y = x Wᵀ + (x Aᵀ) (s B)ᵀ, forward and backward as plain matmuls (LoRA, Hu et al. 2021, arXiv:2106.09685).

    The A of all layers stand one below the other, their B on the diagonal of one matrix. A and B are fp32 and are multiplied in the type of
    ``x``. Only ``x``, ``x Aᵀ`` and the factors are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, joined: JoinedLora, *factors: torch.Tensor) -> torch.Tensor:
        """(T, I) to (T, O)."""
        a_RI = torch.cat(factors[::2]).to(x_TI.dtype)
        b_OR = _diagonal([b * scaling for b, scaling in zip(factors[1::2], joined.scalings, strict=True)]).to(x_TI.dtype)
        low_TR = x_TI @ a_RI.T
        ctx.save_for_backward(x_TI, a_RI, b_OR, low_TR)
        ctx.joined = joined
        return (x_TI @ joined.weight().T).addmm_(low_TR, b_OR.T)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, and of each A and B."""
        x_TI, a_RI, b_OR, low_TR = ctx.saved_tensors
        grad_TO = upstream[0]
        grad_low_TR = grad_TO @ b_OR
        grad_a_RI, grad_b_OR = (grad_low_TR.T @ x_TI).float(), (grad_TO.T @ low_TR).float()
        # The first adapted layer stands behind frozen embeddings: nobody asks for its input's gradient.
        grad_x_TI = (grad_TO @ ctx.joined.weight()).addmm_(grad_low_TR, a_RI) if ctx.needs_input_grad[0] else None
        found: list[torch.Tensor] = []
        row = column = 0
        for layer, scaling in zip(ctx.joined.layers, ctx.joined.scalings, strict=True):
            outputs, rank = layer.B.shape
            found.append(grad_a_RI[column : column + rank])
            found.append(grad_b_OR[row : row + outputs, column : column + rank] * scaling)
            row, column = row + outputs, column + rank
        return grad_x_TI, None, *found


def _diagonal(blocks: list[torch.Tensor]) -> torch.Tensor:
    if len(blocks) == 1:
        return blocks[0]
    whole = torch.zeros(sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks), device=blocks[0].device)
    row = column = 0
    for block in blocks:
        whole[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return whole


#: torch leaves ``Function.apply`` untyped.
_update: Any = LowRankUpdate.apply
