"""Rows of a snapshot with their groups, and how many there are of each kind: counted once, since a million rows are gone through slowly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item
from tailorbird.data.splits.split_assignment import SplitGroup, counted, labels_of
from tailorbird.domain.dataset import Split, SplitCounts
from tailorbird.domain.objective import Task, TaskKind

Placed = Sequence[tuple[Item, SplitGroup]]


class RowCounts(NamedTuple):
    """Rows by target (empty where answers are free), split, and whether they are of the shifted part."""

    rows: Counter[tuple[str, Split, bool]]

    @property
    def targets(self) -> Counter[str]:
        """Rows by target."""
        found = Counter[str]()
        for (target, _, _), count in self.rows.items():
            found[target] += count
        return found

    def splits(self, *, shifted: bool | None = None) -> Counter[Split]:
        """Rows by split: all, those of the shifted part, or the others."""
        found = Counter[Split]()
        for (_, split, of_part), count in self.rows.items():
            if shifted in (None, of_part):
                found[split] += count
        return found

    def labels(self, task: Task, *, shifted: bool | None = None) -> dict[str, SplitCounts]:
        """Rows of each label by split, the labels in order; none where answers are free."""
        found: dict[str, Counter[Split]] = {}
        for (target, split, of_part), count in self.rows.items():
            for label in labels_of(target, task) if shifted in (None, of_part) else ():
                found.setdefault(label, Counter())[split] += count
        return {label: split_counts(found[label]) for label in sorted(found)}

    def changed(self, less: RowCounts, more: RowCounts) -> RowCounts:
        """The counts without some rows, and with others."""
        found = Counter(self.rows)
        found.subtract(less.rows)
        found.update(more.rows)
        return RowCounts(+found)


@dataclass(frozen=True)
class PlacedRows:
    """M rows of the snapshot with their groups as they lie in memory, in which a million are gone through sooner than in the ``order`` of
    their ids; how many they are; ``lengths`` of their texts in characters, ascending. ``changed`` are the rows that became others since
    they were made ready; None where not all of these were."""

    placed: Placed
    order: NDArray[np.intp]
    counts: RowCounts
    lengths: NDArray[np.int32]
    changed: Sequence[int] | None = None


def row_counts(placed: Placed, task: Task) -> RowCounts:
    """The counts of ``placed``."""
    rows = [item.row for item, _ in placed]
    targets = repeat("") if task.kind is not TaskKind.CLASSIFY else [row.target for row in rows]
    return RowCounts(counted(targets, [group.split for _, group in placed], [row.shifted for row in rows]))


def label_counts(targets: Mapping[str, int], task: Task) -> Counter[str]:
    """How many rows each label has, of rows by their target; a row counts for each of its labels."""
    found = Counter[str]()
    for target, count in targets.items():
        for label in labels_of(target, task):
            found[label] += count
    return found


def split_counts(counter: Mapping[Split, int]) -> SplitCounts:
    """Rows per split."""
    return SplitCounts(**{split.value: counter.get(split, 0) for split in Split})
