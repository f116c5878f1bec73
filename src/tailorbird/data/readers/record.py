"""What all kinds of file have in common once read: named cells, each record with its line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tailorbird.data.readers.data_file import DataFile
from tailorbird.domain.dataset import Quarantined


@dataclass(frozen=True)
class Record:
    """One record and the 1-based line on which it starts (in Parquet: the number of its row).

    ``file`` is set where each record is a file of its own. Cells hold what the format says: texts, numbers, lists, None.
    """

    line: int
    cells: dict[str, Any]
    file: DataFile | None = None


#: One after the other: records, and what could not be read as one. Nothing is kept, so that a large file never lies in memory whole.
Records = Iterator[Record | Quarantined]

#: Reads a file. Of the columns only those asked for need to be filled; every record names all of them.
Reader = Callable[[DataFile, Collection[str]], Records]


class EveryColumn(frozenset[str]):
    """All columns, whatever they are called."""

    def __contains__(self, _: object) -> bool:
        return True


def length_of(cell: Any) -> int:
    """Characters of a cell, with all that lies in it; a little for what is no text."""
    if isinstance(cell, str):
        return len(cell)
    if cell is None:
        return 0
    if isinstance(cell, dict):
        return sum(map(length_of, cell)) + sum(map(length_of, cell.values())) + 1
    return sum(map(length_of, cell)) + 1 if isinstance(cell, list | tuple) else 8
