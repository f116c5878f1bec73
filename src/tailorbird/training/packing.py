"""From encoded rows to the one packed row a forward pass computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.tree_attention import AttentionTree, grow_tree


@dataclass(frozen=True)
class Packed:
    """Rows in one. ``ids_1T`` and ``positions_1T`` are the packed tokens; position ids go on from the prefix in each suffix.

    The hidden state at ``answers_A[i]`` predicts ``targets_A[i]`` of the row numbered ``owners_A[i]``. ``useful`` counts prompt and answer
    tokens as if each row stood alone.
    """

    ids_1T: torch.Tensor
    positions_1T: torch.Tensor
    tree: AttentionTree
    answers_A: torch.Tensor
    targets_A: torch.Tensor
    owners_A: torch.Tensor
    useful: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return self.ids_1T.shape[1]

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return self.targets_A.shape[0]


def shared_prefix(rows: Sequence[TokenizedRow]) -> int:
    """How many tokens all rows begin with, less what every row needs for itself: the last token before the first that it learns, which
    predicts it."""
    shared = rows[0].read - 1
    for row in rows[1:]:
        shared = narrowed_prefix(rows[0], row, shared)
    return shared


def narrowed_prefix(first: TokenizedRow, row: TokenizedRow, shared: int) -> int:
    """What remains of a prefix of ``shared`` tokens of ``first`` when ``row`` joins."""
    shared = min(shared, row.read - 1)
    if first.ids[:shared] == row.ids[:shared]:
        return shared
    return next(place for place, (a, b) in enumerate(zip(first.ids, row.ids, strict=False)) if a != b)


def packed_tokens(rows: Sequence[TokenizedRow]) -> int:
    """How many tokens ``rows`` are together, packed."""
    prefix = shared_prefix(rows)
    return prefix + sum(len(row.ids) - 1 - prefix for row in rows)


def pack(rows: Sequence[TokenizedRow], dtype: torch.dtype, device: torch.device) -> Packed:
    """Packs ``rows``; ``dtype`` is that of the queries, which attention masks must share."""
    # Neighbours of like length make attention groups that need little padding.
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    prefix = shared_prefix(rows)
    ids, positions = list(rows[0].ids[:prefix]), list(range(prefix))
    answers: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for place in order:
        row = rows[place]
        shift = len(ids) - prefix
        ids.extend(row.ids[prefix:-1])
        positions.extend(range(prefix, len(row.ids) - 1))
        for start, end in row.spans:
            answers.extend(range(shift + start - 1, shift + end - 1))
        targets.extend(row.targets)
        owners.extend([place] * row.learned)
    return Packed(
        ids_1T=torch.tensor([ids], device=device),
        positions_1T=torch.tensor([positions], device=device),
        tree=grow_tree(prefix, [len(rows[place].ids) - 1 - prefix for place in order], dtype, device),
        answers_A=torch.tensor(answers, device=device),
        targets_A=torch.tensor(targets, device=device),
        owners_A=torch.tensor(owners, device=device),
        useful=sum(len(row.ids) for row in rows),
    )
