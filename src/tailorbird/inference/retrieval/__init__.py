"""Looking up: texts as vectors, entries that fit a text, and their order.

In: folders of encoders and of indexes. Out: vectors; entries found. Must not know: releases, prompts.
"""

from tailorbird.inference.retrieval.encoder import TorchEncoder
from tailorbird.inference.retrieval.lookup import Lookups

__all__ = ["Lookups", "TorchEncoder"]
