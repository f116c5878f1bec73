"""Texts of a data file of any format: its lines, and every cell of its records, at whatever depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailorbird.data.inspection.file_profile import as_it_looks
from tailorbird.data.readers.confined_reader import READERS, file_of, job_for
from tailorbird.data.readers.data_file import DataFile, EveryColumn, open_file
from tailorbird.data.readers.packed_file import BEGINNINGS, unpacked
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.sandbox import stream

#: How a file of columns begins; what lies in it is compressed, and no line.
_PARQUET = b"PAR1"
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
#: Bytes by which a file is told, and those that say nothing.
_START, _BLANK = 4096, b" \t\r\n\0"
#: Texts, and about how many characters, that go together.
_TEXTS, _CHARACTERS = 1024, 1 << 20


def file_texts(path: Path, name: str) -> Iterator[str]:
    """Every text in the file at ``path``, some of them twice; ``name`` is for messages.

    A file is read as what it looks like, whatever it was called. A record that cannot be read is told by its line. Raises DataInvalid for
    what is no text and no table, and as ``read_sources`` for what passes the limits.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    packed = next((kind for kind, beginning in BEGINNINGS.items() if start.startswith(beginning)), None)
    if packed is None:
        yield from _of_unpacked(path, name)
        return
    with unpacked(name, path, packed) as (place, _):
        yield from _of_unpacked(place, name)


def _of_unpacked(path: Path, name: str) -> Iterator[str]:
    with path.open("rb") as file:
        start = file.read(_START)
    if len(start) < _START and not start.strip(_BLANK):
        return
    kinds = (".parquet",) if start.startswith(_PARQUET) else _text_kinds(start)
    for number, kind in enumerate(kinds):
        with open_file(name, path, kind) as found:
            yield from _texts(found, whole=number == 0)


def _text_kinds(start: bytes) -> tuple[str, ...]:
    """What a text may be: a record a line, one list of records, or cells between separators. A line of column names may begin as JSON does
    (``[text],[label]``), and blanks say nothing."""
    begins = start.decode("utf-8-sig", errors="ignore").replace("\0", "").lstrip()
    opened, inside = begins[:1], begins[1:].lstrip()[:1]
    if opened == "{" and inside in ('"', "}"):
        return (".jsonl", ".json")
    if opened == "[" and inside in ("{", "]"):
        return (".json",)
    return (".jsonl", ".json", ".csv") if opened in ("", "{", "[") else (".csv",)


def _texts(file: DataFile, *, whole: bool) -> Iterator[str]:
    try:
        for batch in stream(job_for(file, f"{__name__}:look", whole=whole)):
            yield from map(str, batch)
    except (TypeError, ValueError) as error:
        raise DataInvalid(f"{file.name}: it cannot be read", "the file is damaged: write it again", code="file_broken") from error


def look(given: dict[str, Any]) -> Iterator[list[str]]:
    """Reads a file in a confined process; yields its texts in batches, with ``whole`` its lines, too. Raises DataInvalid."""
    file = as_it_looks(file_of(given))
    batch, size = list[str](), 0
    for text in _spelled_out(_of_file(file, whole=given["whole"])):
        batch.append(text)
        size += len(text)
        if len(batch) >= _TEXTS or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _of_file(file: DataFile, *, whole: bool) -> Iterator[str]:
    """Where a text turns out to be none of its kind, its lines are all there is."""
    if file.kind != ".parquet" and whole:
        yield from text_lines(file, "")
    try:
        for record in READERS[file.kind](file, EveryColumn()):
            if not isinstance(record, Quarantined):
                yield from _of_cells(record.cells)
    except DataInvalid:
        if file.kind == ".parquet":
            raise


def _of_cells(cells: Any) -> Iterator[str]:
    """Keys and values at any depth, one after another."""
    ahead = [cells]
    while ahead:
        cell = ahead.pop()
        if isinstance(cell, dict):
            ahead += [*cell.keys(), *cell.values()]
        elif isinstance(cell, list | tuple):
            ahead += cell
        elif cell is not None:
            yield str(cell)


def _spelled_out(texts: Iterator[str]) -> Iterator[str]:
    """``texts``, and once more without escapes of JSON: those of a broken record, or within a cell, stand as they were written."""
    for text in texts:
        yield text
        if "\\u" in text:
            plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
            yield plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
