"""QLoRA (Dettmers et al. 2023, arXiv:2305.14314): adapters in fp32 on frozen weights in 4-bit NormalFloat, scales quantised again.

In: a base model and settings. Out: the model with adapters, and the adapter in PEFT format. Must not know: the loop, batches.

The adapter is learned on the quantised base and saved for the base as it is. tailorbird measures and serves it there, on the unquantised
base: what was measured is what is served. The loss that the loop reports is that of the quantised base, and so a little higher or lower.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.training.methods.lora import Lora, LoraLinear
from tailorbird.training.methods.lora.method import linear_layers, shape_of
from tailorbird.training.methods.qlora.linear import QloraLinear, quantised
from tailorbird.training.methods.registry import Learner
from tailorbird.training.network import read_model

#: bitsandbytes mentions a package with faster kernels for work that is not done here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
#: transformers leaves it untyped.
_config: Any = BitsAndBytesConfig


class Qlora(Lora):
    """As ``Lora``, where the memory does not hold the base in 16 bits: every linear layer but the head takes 4.13 bits a weight."""

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

    def check(self, learner: Learner) -> None:
        """As ``Lora.check``; DoRA is refused: its magnitudes would be those of the quantised weights, and wrong where it is served."""
        super().check(learner)
        if shape_of(learner.settings).dora:
            raise InvalidInput("DoRA cannot be combined with a quantised base", "leave dora out, or use lora", code="dora_quantised")

    def adapted(self, linear: nn.Linear, learner: Learner) -> LoraLinear:
        """``linear``, quantised where it is not yet, with an adapter."""
        lora = shape_of(learner.settings)
        return QloraLinear(linear, lora.rank, lora.scaling)
