"""Linear layers whose frozen weight is kept in 4 bits, plain and with a low-rank adapter beside it.

In: a layer, quantised by bitsandbytes as it was read or quantised here; inputs. Out: as ``nn.Linear`` and ``LoraLinear``. Must not know:
which layers are adapted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from tailorbird.training.methods.lora import LoraLinear
from tailorbird.training.methods.lora.linear import Joined


class Nf4Linear(nn.Linear):
    """A layer of bitsandbytes (``Linear4bit``) that computes by us.

    Its own forward pass repacks the weight in place on some processors, and so rounds its scales: what is learned on would then change
    under the way. Ours makes the weight anew for each product, forward and backward, and drops it.
    """

    def dequantised(self) -> torch.Tensor:
        """The weight (outputs, inputs) that the 4 bits stand for, in the type in which the model was read."""
        from bitsandbytes.functional import dequantize_4bit

        packed: Any = self.weight
        weight_OI: torch.Tensor = dequantize_4bit(packed.data, packed.quant_state)
        return weight_OI

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        y: torch.Tensor = _product(input, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class FrozenProduct(torch.autograd.Function):
    """x Wᵀ with a frozen weight of which nothing is kept between the forward and the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Nf4Linear) -> torch.Tensor:
        """(…, I) to (…, O)."""
        ctx.layer = layer
        weight_OI = layer.dequantised()
        return x.to(weight_OI.dtype) @ weight_OI.T

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of x."""
        return upstream[0] @ ctx.layer.dequantised(), None


#: torch leaves ``Function.apply`` untyped.
_product: Any = FrozenProduct.apply


class QloraLinear(LoraLinear):
    """An adapter beside a weight in 4 bits."""

    def __init__(self, linear: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__(quantised(linear), rank, scaling)

    def weight(self) -> torch.Tensor:
        """The frozen weight (outputs, inputs), dequantised."""
        assert isinstance(self.linear, Nf4Linear)
        return self.linear.dequantised()

    @staticmethod
    def joined(layers: Sequence[LoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
        """``layers`` that read the same input, as one."""
        return Joined(layers)


def quantised(linear: nn.Linear) -> Nf4Linear:
    """``linear`` in 4 bits, scales quantised again; one that was quantised as it was read keeps its bits."""
    four_bit: Any = import_module("bitsandbytes.nn")
    if not isinstance(linear, four_bit.Linear4bit | Nf4Linear):
        made = four_bit.Linear4bit(linear.in_features, linear.out_features, bias=False, device="meta", quant_type="nf4")
        made.weight = four_bit.Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4").to(linear.weight.device)
        made.bias = linear.bias
        linear = made
    linear.__class__ = Nf4Linear
    assert isinstance(linear, Nf4Linear)
    return linear
