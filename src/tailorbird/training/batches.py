"""Which rows are learned when.

Packed rows pay for no padding, so rows are not sorted by length: every epoch is one honest shuffle, of whose batches the longest comes
first, so that memory that is short shows at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tailorbird.domain.plan import TrainingSettings
from tailorbird.training.packing import narrowed_prefix, packed_tokens
from tailorbird.training.tokenization import TokenizedRow


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
        """Whether the held-out loss is measured after ``step`` steps: evenly through each epoch, its end among them."""
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
