"""Batches of a training: the order of the rows, and packing into the one row that a forward pass computes.

Packed rows pay for no padding, so rows are not sorted by length: every epoch is one honest shuffle, of whose batches the longest comes
first, so that memory that is short shows at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tailorbird.domain.plan import TrainingSettings
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
    """Length that remains of a prefix of ``shared`` tokens of ``first`` when ``row`` joins."""
    shared = min(shared, row.read - 1)
    if first.ids[:shared] == row.ids[:shared]:
        return shared
    return next(place for place, (a, b) in enumerate(zip(first.ids, row.ids, strict=False)) if a != b)


def packed_tokens(rows: Sequence[TokenizedRow]) -> int:
    """Number of tokens of ``rows``, packed."""
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


class Batches:
    """The optimiser batches of a whole run, by step, so that a run can go on at any step."""

    def __init__(self, rows: Sequence[TokenizedRow], settings: TrainingSettings) -> None:
        self._rows = rows
        self._settings = settings
        self.steps_per_epoch = -(-len(rows) // settings.batch_size)
        self.steps = self.steps_per_epoch * settings.epochs
        self._epoch = -1
        self._batches: list[list[TokenizedRow]] = []

    def at(self, step: int, token_budget: int | None = None) -> list[list[TokenizedRow]]:
        """The rows of ``step`` (0-based), divided into forward passes of at most ``token_budget`` tokens, or the settings'."""
        return divide(self.rows(step), token_budget or self._settings.token_budget)

    def rows(self, step: int) -> list[TokenizedRow]:
        """The rows of ``step`` (0-based), undivided."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._ordered(epoch)[place]

    def _ordered(self, epoch: int) -> list[list[TokenizedRow]]:
        if epoch != self._epoch:
            order, size = list(range(len(self._rows))), self._settings.batch_size
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(order)
            batches = [[self._rows[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
            longest = max(range(len(batches)), key=lambda place: self._longest_part(batches[place]))
            batches[0], batches[longest] = batches[longest], batches[0]
            self._epoch, self._batches = epoch, batches
        return self._batches

    def _longest_part(self, batch: list[TokenizedRow]) -> int:
        return max(packed_tokens(part) for part in divide(batch, self._settings.token_budget))

    def evaluates(self, step: int) -> bool:
        """True when the validation loss is measured after ``step`` steps: evenly through each epoch, its end among them."""
        per_epoch, times = self.steps_per_epoch, max(1, self._settings.evaluations_per_epoch)
        return step > 0 and (step - 1) % per_epoch + 1 in {-(-per_epoch * k // times) for k in range(1, times + 1)}


def divide(rows: Sequence[TokenizedRow], token_budget: int) -> list[list[TokenizedRow]]:
    """``rows`` in order, as few to a part as keeps its packed length within ``token_budget``; a longer row stands alone.

    A row's last token is predicted but never read, so it takes no room.
    """
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
