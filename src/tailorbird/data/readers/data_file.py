"""Data file opened for reading, and the records that every format yields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.value import Digest
from tailorbird.system.files import digest_file


@dataclass(frozen=True)
class DataFile:
    """``name`` is what the objective calls it, ``path`` where its bytes (or, for a folder, its files) lie for now, ``kind`` its format.

    ``encoding`` and ``separator`` are those of text files (None: what the format says). ``packed`` is the size of the compressed file that
    its bytes came from: what may come out of it goes by that.

    ``digest`` is that of the bytes; for a folder, that of its files' digests by relative path.
    """

    name: str
    path: Path
    digest: Digest
    kind: str
    encoding: str = "utf-8"
    separator: str | None = None
    packed: int | None = None


@contextmanager
def open_file(name: str, path: Path, kind: str) -> Iterator[DataFile]:
    """The file at ``path``, with its digest. Raises DataInvalid when it is unreadable, empty, or changed while it was read."""
    try:
        before = state_of(path)
        digest = digest_file(path)
    except OSError as error:
        raise DataInvalid(f"{name}: cannot be read: {error.strerror}", "give the path of a readable file", code="file_missing") from error
    if before[0] == 0:
        raise empty(name)
    yield DataFile(name, path, digest, kind)
    if state_of(path) != before:
        raise changed(name)


def empty(name: str) -> DataInvalid:
    """There is nothing in the file."""
    return DataInvalid(f"{name}: the file is empty", "give a file with at least a few rows for each label", code="file_empty")


def changed(name: str) -> DataInvalid:
    """Somebody writes to the file: rows of before and after must not be mixed under one digest."""
    return DataInvalid(f"{name}: the file was changed while it was read", "wait until it is written, and try again", code="file_changed")


def state_of(path: Path) -> tuple[int, int, int]:
    """By what it is seen that a file was changed: its size, its time, and which file it is."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@dataclass(frozen=True)
class Record:
    """One record and the 1-based line on which it starts (in Parquet: the number of its row).

    ``file`` is set where each record is a file of its own. Cells hold what the format says: texts, numbers, lists, None.
    """

    line: int
    cells: dict[str, Any]
    file: DataFile | None = None


def is_blank(record: Record, kind: str) -> bool:
    """True for a line of a spreadsheet (``kind`` of the file) in which none of several cells says anything, as exports end with them: it is
    no row. One cell alone is empty only where somebody wrote ``""``."""
    return kind in (".csv", ".tsv") and len(record.cells) > 1 and not any(map(str.strip, record.cells.values()))


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
