"""Rows of token ids into batches: like lengths together, padded on the left, within a budget.

In: rows of uneven length. Out: which rows go together; padded tokens, positions and who may see whom. Axes: B rows, T padded length, P
prefix shared by all rows, K = P + T. Must not know: what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


def batches(lengths: Sequence[int], extra: int, budget: int) -> list[list[int]]:
    """Indices of rows, longest first, cut so that rows x (longest + ``extra``) stays within ``budget``; no batch is empty."""
    cut: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        current = cut[-1] if cut else None
        if current is not None and (len(current) + 1) * (lengths[current[0]] + extra) <= budget:
            current.append(index)
        else:
            cut.append([index])
    return cut


class PaddedRows(NamedTuple):
    """Rows that end in the same column. ``real_BT`` is false at padding."""

    tokens_BT: torch.Tensor
    positions_BT: torch.Tensor
    real_BT: torch.Tensor

    def seen_BTK(self, prefix: int) -> torch.Tensor:
        """Each token sees the prefix, the real tokens before it, and itself (padding too, lest it see nothing)."""
        rows, length = self.real_BT.shape
        square = torch.ones(length, length, dtype=torch.bool, device=self.real_BT.device)
        own_BTT = (square.tril() & self.real_BT.unsqueeze(1)) | torch.eye(length, dtype=torch.bool, device=self.real_BT.device)
        return torch.cat([own_BTT.new_ones(rows, length, prefix), own_BTT], dim=2)


def pad_left(rows: Sequence[Sequence[int]], prefix: int, device: torch.device) -> PaddedRows:
    """``rows`` as they follow ``prefix`` shared tokens."""
    longest = max(len(row) for row in rows)
    tokens_BT = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    lengths_B = torch.tensor([len(row) for row in rows], device=device)
    places_BT = torch.arange(longest, device=device) - (longest - lengths_B).unsqueeze(1)
    return PaddedRows(tokens_BT, prefix + places_BT.clamp(min=0), places_BT >= 0)
