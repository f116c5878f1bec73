"""Full fine-tuning: all weights, held in fp32, saved as a Hugging Face folder.

In: a base model. Out: a model. Must not know: the loop.
"""

from tailorbird.training.methods.full.method import Full
from tailorbird.training.methods.registry import register

__all__ = ["Full"]

register(Full())
