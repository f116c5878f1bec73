"""QLoRA (Dettmers et al. 2023, arXiv:2305.14314): fp32 adapters on frozen 4-bit NormalFloat weights, saved in PEFT format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from tailorbird.domain.errors import Unavailable
from tailorbird.training.methods.lora import JoinedLora, Lora, LoraLinear, linear_layers, shape_of
from tailorbird.training.methods.registry import Learner, register
from tailorbird.training.network import read_model


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

    def frozen(self) -> torch.Tensor:
        """The frozen weight (outputs, inputs), dequantised."""
        assert isinstance(self.linear, Nf4Linear)
        return self.linear.dequantised()

    @staticmethod
    def joined(layers: Sequence[LoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
        """``layers`` that read the same input, as one."""
        return JoinedLora(layers)


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


#: bitsandbytes mentions a package with faster kernels for work that is not done here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
#: transformers leaves it untyped.
_config: Any = BitsAndBytesConfig


class Qlora(Lora):
    """As ``Lora``, where the memory does not hold the base in 16 bits: every linear layer but the head takes 4.13 bits a weight.

    The adapter is learned on the quantised base and saved for the base as it is. tailorbird measures and serves it there, on the
    unquantised base: what was measured is what is served. The loss that the loop reports is that of the quantised base, and so a little
    higher or lower.
    """

    name = "qlora"

    #: Weights in 4 bits are packed in pairs and blocks, which a division by rows would cut.
    divisible = False

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model, each layer quantised as it is read: NF4 in blocks of 64, their scales in 8 bits.

        Raises ModelInvalid, and Unavailable when bitsandbytes is not installed.
        """
        if not find_spec("bitsandbytes"):
            raise Unavailable(
                "QLoRA needs the package bitsandbytes, which is not installed",
                "pip install 'tailorbird[local]', or use lora where the memory allows",
                code="package_missing",
            )
        # Our own layers decide what is computed with; this names the format alone.
        nf4 = _config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
        model = read_model(folder, dtype, device, nf4)
        for layer in linear_layers(model).values():
            quantised(layer)
        return model

    def adapted(self, linear: nn.Linear, learner: Learner) -> LoraLinear:
        """``linear``, quantised where it is not yet, with an adapter."""
        lora = shape_of(learner.settings)
        return QloraLinear(linear, lora.rank, lora.scaling)


register(Qlora())
