"""A decoder with the adapter it is to be run with: what scoring and generation compute on.

In: a decoder and perhaps an adapter. Out: hidden states and logits. A batch that mixes adapters is a change to this file and to
``Linear.__call__`` alone. Must not know: who asks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tailorbird.inference.adapter import Adapter
from tailorbird.inference.decoder import Decoder
from tailorbird.inference.memory import Memory, Shape


class Model(NamedTuple):
    """A decoder as one servable changes it."""

    decoder: Decoder
    adapter: Adapter | None

    @property
    def shape(self) -> Shape:
        """What one token leaves behind."""
        return self.decoder.shape

    @property
    def context(self) -> int:
        """The longest run of tokens the model can read."""
        return self.decoder.context

    def hidden(self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor, seen_BTK: torch.Tensor, memory: Memory) -> torch.Tensor:
        """As ``Decoder.hidden``."""
        return self.decoder.hidden(tokens_BT, positions_BT, seen_BTK, memory, self.adapter)

    def logits(self, hidden_NE: torch.Tensor) -> torch.Tensor:
        """As ``Decoder.logits``."""
        return self.decoder.logits(hidden_NE)
