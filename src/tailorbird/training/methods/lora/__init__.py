"""LoRA: low-rank adapters beside frozen weights, saved in PEFT format.

In: a base model. Out: an adapter. Must not know: the loop.
"""

from tailorbird.training.methods.lora.linear import LoraLinear
from tailorbird.training.methods.lora.method import Lora
from tailorbird.training.methods.registry import register

__all__ = ["Lora", "LoraLinear"]

register(Lora())
