"""What a confined process does for the data room: parses a file of data, and sends what is in it in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tailorbird.data.readers.appended_reader import record_at, records_since
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.formats import READERS
from tailorbird.data.readers.qrels import judgement_lines
from tailorbird.data.readers.record import EveryColumn
from tailorbird.data.readers.record_batches import packed

#: Lines of judgements that go together.
_LINES = 1024


def file_of(given: dict[str, Any]) -> DataFile:
    """The file that ``given`` describes."""
    return DataFile(**given["file"] | {"path": Path(given["file"]["path"])})


def records(given: dict[str, Any]) -> Iterator[Any]:
    """All records; of the columns those in ``wanted``, or each where that is None."""
    file, wanted = file_of(given), given["wanted"]
    columns: Collection[str] = EveryColumn() if wanted is None else wanted
    yield from packed(READERS[file.kind](file, columns))


def appended(given: dict[str, Any]) -> Iterator[Any]:
    """The records from byte ``start`` on, which follow ``lines`` lines."""
    yield from packed(records_since(file_of(given), given["start"], given["lines"]))


def single(given: dict[str, Any]) -> Iterator[Any]:
    """The record that starts on ``line``."""
    yield from packed(iter([record_at(file_of(given), given["line"])]))


def judgements(given: dict[str, Any]) -> Iterator[Any]:
    """Lines of judgements with their cells."""
    lines: list[tuple[int, list[str]]] = []
    for each in judgement_lines(file_of(given)):
        lines.append(each)
        if len(lines) == _LINES:
            yield lines
            lines = []
    yield lines
