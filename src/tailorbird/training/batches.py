"""Batches of a training: the order of the rows, and their layout in a forward pass: packed into one row, or padded to one length.

Packed rows pay for no padding, so rows are not sorted by length: every epoch is one honest shuffle, of whose batches the longest comes
first, so that memory that is short shows at once. Padded ones are sorted within their batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from tailorbird.domain.plan import TrainingSettings
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.tree_attention import AttentionTree, grow_tree


class RowLayout(StrEnum):
    """Layout of the rows of a forward pass, the cheapest first: packed behind the beginning that they share; below one another, padded
    behind their ends; one row at a time."""

    TREE = "tree"
    PADDED = "padded"
    SINGLE = "single"


@dataclass(frozen=True)
class Packed:
    """Rows in one. ``ids_1T`` and ``positions_1T`` are the packed tokens; position ids go on from the prefix in each suffix.

    Without a ``tree`` the rows stand below one another, (B, T), ``mask_BT`` is 0 behind their ends (None where all are of one length), and
    places count through all rows.

    The hidden state at ``answers_A[i]`` predicts ``targets_A[i]`` of the row numbered ``owners_A[i]``. ``useful`` counts prompt and answer
    tokens as if each row stood alone.
    """

    ids_1T: torch.Tensor
    positions_1T: torch.Tensor
    tree: AttentionTree | None
    answers_A: torch.Tensor
    targets_A: torch.Tensor
    owners_A: torch.Tensor
    useful: int
    mask_BT: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return self.ids_1T.numel()

    @property
    def pairs(self) -> int:
        """(query, key) pairs that are not masked; of padded rows, those of the padding too."""
        rows, length = self.ids_1T.shape
        return rows * length * (length + 1) // 2 if self.tree is None else self.tree.pairs

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
    """Length that remains of a prefix of ``shared`` tokens of ``first`` when ``row`` joins."""
    shared = min(shared, row.read - 1)
    if first.ids[:shared] == row.ids[:shared]:
        return shared
    return next(place for place, (a, b) in enumerate(zip(first.ids, row.ids, strict=False)) if a != b)


def packed_tokens(rows: Sequence[TokenizedRow], layout: RowLayout = RowLayout.TREE) -> int:
    """Number of tokens that a pass over ``rows`` computes."""
    if layout is not RowLayout.TREE:
        return len(rows) * (max(len(row.ids) for row in rows) - 1)
    prefix = shared_prefix(rows)
    return prefix + sum(len(row.ids) - 1 - prefix for row in rows)


def pack(rows: Sequence[TokenizedRow], dtype: torch.dtype, device: torch.device, layout: RowLayout = RowLayout.TREE) -> Packed:
    """Lays out ``rows``; ``dtype`` is that of the queries, which attention masks must share."""
    if layout is not RowLayout.TREE:
        return _padded(rows, device)
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


def _padded(rows: Sequence[TokenizedRow], device: torch.device) -> Packed:
    """Rows below one another. What pads them stands behind their ends, where no token of a row looks."""
    length = max(len(row.ids) for row in rows) - 1
    lacking = [length - (len(row.ids) - 1) for row in rows]
    ids = [[*row.ids[:-1], *[row.ids[0]] * padding] for row, padding in zip(rows, lacking, strict=True)]
    answers = [place * length + token - 1 for place, row in enumerate(rows) for start, end in row.spans for token in range(start, end)]
    mask = [[1] * (length - padding) + [0] * padding for padding in lacking]
    return Packed(
        ids_1T=torch.tensor(ids, device=device),
        positions_1T=torch.arange(length, device=device).expand(len(rows), -1),
        tree=None,
        answers_A=torch.tensor(answers, device=device),
        targets_A=torch.tensor([token for row in rows for token in row.targets], device=device),
        owners_A=torch.tensor([place for place, row in enumerate(rows) for _ in range(row.learned)], device=device),
        useful=sum(len(row.ids) for row in rows),
        mask_BT=torch.tensor(mask, device=device) if any(lacking) else None,
    )


class Batches:
    """The optimiser batches of a whole run, by step, so that a run can go on at any step."""

    def __init__(self, rows: Sequence[TokenizedRow], settings: TrainingSettings, layout: RowLayout = RowLayout.TREE) -> None:
        self._layout = layout
        self._rows = rows
        self._settings = settings
        self.steps_per_epoch = -(-len(rows) // settings.batch_size)
        self.steps = self.steps_per_epoch * settings.epochs
        self._epoch = -1
        self._batches: list[list[TokenizedRow]] = []

    def at(self, step: int, token_budget: int | None = None) -> list[list[TokenizedRow]]:
        """The rows of ``step`` (0-based), divided into forward passes of at most ``token_budget`` tokens, or the settings'."""
        return divide(self.rows(step), token_budget or self._settings.token_budget, self._layout)

    def rows(self, step: int) -> list[TokenizedRow]:
        """The rows of ``step`` (0-based), undivided."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._ordered(epoch)[place]

    def _ordered(self, epoch: int) -> list[list[TokenizedRow]]:
        if epoch != self._epoch:
            order, size = list(range(len(self._rows))), self._settings.batch_size
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(order)
            batches = [[self._rows[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
            if self._layout is not RowLayout.TREE:
                batches = [sorted(batch, key=lambda row: len(row.ids)) for batch in batches]
            longest = max(range(len(batches)), key=lambda place: self._longest_part(batches[place]))
            batches[0], batches[longest] = batches[longest], batches[0]
            self._epoch, self._batches = epoch, batches
        return self._batches

    def _longest_part(self, batch: list[TokenizedRow]) -> int:
        return max(packed_tokens(part, self._layout) for part in divide(batch, self._settings.token_budget, self._layout))

    def evaluates(self, step: int) -> bool:
        """True when the validation loss is measured after ``step`` steps: evenly through each epoch, its end among them."""
        per_epoch, times = self.steps_per_epoch, max(1, self._settings.evaluations_per_epoch)
        return step > 0 and (step - 1) % per_epoch + 1 in {-(-per_epoch * k // times) for k in range(1, times + 1)}


def divide(rows: Sequence[TokenizedRow], token_budget: int, layout: RowLayout = RowLayout.TREE) -> list[list[TokenizedRow]]:
    """``rows`` in order, in as few parts as keep the tokens of each within ``token_budget``; a longer row stands alone.

    A row's last token is predicted but never read, so it takes no room.
    """
    if layout is RowLayout.SINGLE:
        return [[row] for row in rows]
    if layout is RowLayout.PADDED:
        return _divided_padded(rows, token_budget)
    parts: list[list[TokenizedRow]] = []
    shared = read = 0
    for row in rows:
        length = len(row.ids) - 1
        if parts:
            narrowed = narrowed_prefix(parts[-1][0], row, shared)
            if read + length - len(parts[-1]) * narrowed <= token_budget:
                parts[-1].append(row)
                shared, read = narrowed, read + length
                continue
        parts.append([row])
        shared, read = row.read - 1, length
    return parts


def _divided_padded(rows: Sequence[TokenizedRow], token_budget: int) -> list[list[TokenizedRow]]:
    parts: list[list[TokenizedRow]] = []
    for row in rows:
        if parts and packed_tokens([*parts[-1], row], RowLayout.PADDED) <= token_budget:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts
