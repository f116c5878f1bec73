"""Which rows are learned when.

In: rows, settings. Out: the rows of each optimiser step, and their division into forward passes; determined by the seed alone. Must not
know: the model.

Packed rows pay for no padding, so rows are not sorted by length: every epoch is one honest shuffle.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tailorbird.domain.plan import TrainingSettings
from tailorbird.training.encoding import Encoded
from tailorbird.training.packing import narrowed_prefix


class Batches:
    """The optimiser batches of a whole run, by step, so that a run can go on at any step."""

    def __init__(self, rows: Sequence[Encoded], settings: TrainingSettings) -> None:
        self._rows = rows
        self._settings = settings
        self.steps_per_epoch = -(-len(rows) // settings.batch_size)
        self.steps = self.steps_per_epoch * settings.epochs
        self._epoch = -1
        self._order: list[int] = []

    def at(self, step: int) -> list[list[Encoded]]:
        """The rows of ``step`` (0-based), divided into forward passes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self._settings.batch_size
        batch = [self._rows[i] for i in self._shuffled(epoch)[place * size : (place + 1) * size]]
        return divide(batch, self._settings.token_budget)

    def _shuffled(self, epoch: int) -> list[int]:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(len(self._rows)))
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(self._order)
        return self._order

    def evaluation_steps(self) -> set[int]:
        """The steps after which the held-out loss is measured: evenly through each epoch, its end among them."""
        per_epoch, times = self.steps_per_epoch, max(1, self._settings.evaluations_per_epoch)
        return {epoch * per_epoch + -(-per_epoch * k // times) for epoch in range(self._settings.epochs) for k in range(1, times + 1)}


def divide(rows: Sequence[Encoded], token_budget: int) -> list[list[Encoded]]:
    """``rows`` in order, as few to a part as keeps its packed length within ``token_budget``; a longer row stands alone.

    A row's last token is predicted but never read, so it takes no room.
    """
    parts: list[list[Encoded]] = []
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
        shared, read = row.prompt - 1, length
    return parts
