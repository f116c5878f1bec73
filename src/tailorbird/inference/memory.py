"""Keys and values of tokens already read, so that they are read once.

In: keys and values, layer by layer. Out: those and all before them. Axes: L layers, B rows, H key heads, T new tokens, K tokens so far, P
prefix, D head size; the axis of size 2 holds keys, then values. Must not know: what the tokens mean.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch


class Shape(NamedTuple):
    """What one token leaves behind in a model."""

    layers: int
    heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device


class Prefix(NamedTuple):
    """Keys and values of a run of tokens with which several rows begin."""

    store_L2HPD: torch.Tensor

    @property
    def length(self) -> int:
        """Tokens."""
        return self.store_L2HPD.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.store_L2HPD.nbytes

    def first(self, length: int) -> Prefix:
        """The first ``length`` tokens of this prefix, as a view."""
        return Prefix(self.store_L2HPD[:, :, :, :length])


def no_prefix(shape: Shape) -> Prefix:
    """The prefix of no token."""
    return Prefix(torch.empty(shape.layers, 2, shape.heads, 0, shape.head_size, dtype=shape.dtype, device=shape.device))


class Memory(Protocol):
    """What a forward pass reads earlier tokens from."""

    def extend(self, layer: int, keys_BHTD: torch.Tensor, values_BHTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (BHKD) of all tokens so far at ``layer``, the new ones last."""
        ...

    def advance(self, tokens: int) -> None:
        """Called once every layer has been extended."""
        ...


class Passing:
    """A shared prefix and nothing kept: for a single pass over rows."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix

    def extend(self, layer: int, keys_BHTD: torch.Tensor, values_BHTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``Memory.extend``."""
        earlier_2BHPD = self._prefix.store_L2HPD[layer].unsqueeze(1).expand(-1, len(keys_BHTD), -1, -1, -1)
        return torch.cat([earlier_2BHPD[0], keys_BHTD], dim=2), torch.cat([earlier_2BHPD[1], values_BHTD], dim=2)

    def advance(self, tokens: int) -> None:
        """Keeps nothing."""


class Growing:
    """A shared prefix and everything read since, up to ``room`` further tokens a row."""

    def __init__(self, prefix: Prefix, rows: int, room: int) -> None:
        layers, _, heads, length, head_size = prefix.store_L2HPD.shape
        self._store_L2BHKD = prefix.store_L2HPD.new_empty(layers, 2, rows, heads, length + room, head_size)
        self._store_L2BHKD[:, :, :, :, :length] = prefix.store_L2HPD.unsqueeze(2)
        self.length = length

    def extend(self, layer: int, keys_BHTD: torch.Tensor, values_BHTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``Memory.extend``."""
        end = self.length + keys_BHTD.shape[2]
        store_2BHKD = self._store_L2BHKD[layer]
        store_2BHKD[0, :, :, self.length : end] = keys_BHTD
        store_2BHKD[1, :, :, self.length : end] = values_BHTD
        return store_2BHKD[0, :, :, :end], store_2BHKD[1, :, :, :end]

    def advance(self, tokens: int) -> None:
        """The last ``tokens`` columns are now read."""
        self.length += tokens

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but ``rows``."""
        self._store_L2BHKD = self._store_L2BHKD.index_select(2, rows)

    def as_prefix(self) -> Prefix:
        """What the first row has read."""
        return Prefix(self._store_L2BHKD[:, :, 0, :, : self.length])
