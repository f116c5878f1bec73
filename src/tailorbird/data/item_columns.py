"""Columns of items by the million: what is kept of rows for those that are appended, and the names that its numbers stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item
from tailorbird.domain.objective import Objective, TaskKind

Names = dict[str, list[Any]]
Columns = dict[str, NDArray[np.int32]]


class ItemColumns:
    """Names and columns of items, made now or before, while others searched for near-duplicates."""

    def __init__(self) -> None:
        self._items: Sequence[Item] | None = None
        self._made: tuple[Names, Columns] | None = None

    def make(self, items: Sequence[Item], objective: Objective) -> None:
        """Makes those of ``items``, which may be asked for later."""
        self._items, self._made = items, named_columns(items, objective)

    def of(self, items: Sequence[Item], objective: Objective) -> tuple[Names, Columns]:
        """``named_columns`` of ``items``. What was made is used up."""
        made, self._made = self._made if items is self._items else None, None
        return made or named_columns(items, objective)


def labelled(objective: Objective) -> bool:
    """True where targets are labels, of which there are few."""
    return objective.task.kind is TaskKind.CLASSIFY


def named_columns(items: Sequence[Item], objective: Objective) -> tuple[Names, Columns]:
    """The names of ``items``, and their columns by them."""
    names = _names(items, objective)
    return names, item_columns(items, names, objective)


def _names(items: Sequence[Item], objective: Objective) -> Names:
    """Files with their fixed splits, targets where they are labels, and subjects, each in the order in which they appear."""
    fixed = {item.row.place.file: item.row.fixed for item in items}
    return {
        "files": [[name, split.value if split else None] for name, split in fixed.items()],
        "targets": list(dict.fromkeys(item.row.target for item in items)) if labelled(objective) else [""],
        "subjects": list(dict.fromkeys(item.subject for item in items if item.subject is not None)),
    }


def item_columns(items: Sequence[Item], names: Mapping[str, Any], objective: Objective) -> Columns:
    """What is kept of items, by the numbers that ``names`` give to files, targets and subjects."""
    files = {name: number for number, (name, _) in enumerate(names["files"])}
    targets = {target: number for number, target in enumerate(names["targets"])} if labelled(objective) else {}
    subjects = {subject: number for number, subject in enumerate(names["subjects"])}
    size = len(items)
    return {
        "file": np.fromiter((files[item.row.place.file] for item in items), np.int32, size),
        "target": np.fromiter((targets.get(item.row.target, 0) for item in items), np.int32, size),
        "subject": np.fromiter((-1 if item.subject is None else subjects[item.subject] for item in items), np.int32, size),
        "line": np.fromiter((item.row.line for item in items), np.int32, size),
        "length": np.fromiter((len(item.row.text) for item in items), np.int32, size),
    }
