"""QLoRA: low-rank adapters beside frozen weights that are kept in 4 bits, saved in PEFT format.

In: a base model. Out: an adapter. Must not know: the loop.
"""

from tailorbird.training.methods.qlora.linear import QloraLinear
from tailorbird.training.methods.qlora.method import Qlora
from tailorbird.training.methods.registry import register

__all__ = ["Qlora", "QloraLinear"]

register(Qlora())
