"""A linear layer whose weight is taken apart into direction and magnitude: the adapter turns the direction, a vector is the magnitude."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from tailorbird.training.methods.lora.linear import JoinedLora, LoraLinear


class DoraLinear(LoraLinear):
    """DoRA (Liu et al. 2024, arXiv:2402.09353): ``magnitude`` (outputs,) starts as the norms of the frozen weight's rows.

    As its authors do, the norm counts as a constant in the backward pass: the gradient then needs no more memory than LoRA's. It costs a
    product ``B A`` a pass, of the weight's own size.
    """

    def __init__(self, linear: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__(linear, rank, scaling)
        self.magnitude = nn.Parameter(self.weight().float().norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        return _scaled([self])(x.flatten(0, -2)).view(*x.shape[:-1], -1)

    @staticmethod
    def joined(layers: Sequence[LoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
        """``layers`` that read the same input, as one."""
        return _scaled([layer for layer in layers if isinstance(layer, DoraLinear)])

    def relative_magnitude(self) -> torch.Tensor:
        """m / ‖W + s B A‖ (outputs,), in fp32; the norm is detached."""
        with torch.no_grad():
            norm_O: torch.Tensor = torch.addmm(self.weight().float(), self.B, self.A, alpha=self.scaling).norm(dim=1)
        relative_O: torch.Tensor = self.magnitude / norm_O
        return relative_O


def _scaled(layers: Sequence[DoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
    together = JoinedLora(layers)

    def apply(x_TI: torch.Tensor) -> torch.Tensor:
        relative_O = torch.cat([layer.relative_magnitude() for layer in layers])
        y_TO = together.without_bias(x_TI)
        return together.with_bias(y_TO * relative_O.to(y_TO.dtype))

    return apply
