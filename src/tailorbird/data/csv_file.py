"""Comma-separated values (RFC 4180), with the line on which each record starts.

In: the text of a CSV file with a header. Out: a table. Must not know: what the columns mean.

Quotes are taken strictly: a quote that is never closed, or closed in the middle of a cell, would otherwise swallow rows in silence.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from tailorbird.data.table import Record, Table
from tailorbird.data.text_file import TextFile
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid

#: A record over more lines than this is looked at: are most of its lines records themselves?
SUSPICIOUS_LINES = 10

_CELL = re.compile(r'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|)(?:,|\r\n?|\n|\Z)')
_LINE_END = re.compile(r"\r\n?|\n")


def parse_csv(file: TextFile) -> Table:
    """The records of ``file``. Blank lines are no records; a record with another number of cells than the header is broken.

    Raises DataInvalid when a quote is broken (with the line where it opened) or when two columns share a name.
    """
    columns: list[str] | None = None
    records: list[Record] = []
    broken: list[Quarantined] = []
    for line, cells in _records(file):
        if columns is None:
            columns = _header(file.name, cells)
        elif len(cells) == len(columns):
            records.append(Record(line, dict(zip(columns, cells, strict=True))))
        else:
            reason = f"{len(cells)} cells where the header has {len(columns)}"
            broken.append(Quarantined(file=file.name, line=line, code="wrong_cell_count", reason=reason))
    return Table(tuple(columns or ()), tuple(records), tuple(broken))


def _header(name: str, cells: list[str]) -> list[str]:
    for cell in cells:
        if cell and cells.count(cell) > 1:
            raise DataInvalid(
                f"{name}:1: the column {cell[:40]!r} stands in the header twice", "rename one of the two", code="column_twice"
            )
    return cells


def _records(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every record, the header first."""
    lines = io.StringIO(file.text, newline="").readlines()
    reader = csv.reader(lines, strict=True)
    start, width = 1, 0
    try:
        for cells in reader:
            width = width or len(cells)
            if reader.line_num - start >= SUSPICIOUS_LINES and _swallowed(lines[start : reader.line_num], width):
                raise _broken_quote(file.name, start)
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise _broken_quote(file.name, _opening_line(file.text, lines, start)) from error


def _swallowed(inner: list[str], width: int) -> bool:
    """True when four in five lines inside one record have as many cells as the header: they are rows that a quote has swallowed."""
    if width < 2:
        return False
    alike = sum(len(next(csv.reader([line]), [])) == width for line in inner)
    return alike >= 0.8 * len(inner)


def _broken_quote(name: str, line: int) -> DataInvalid:
    hint = 'close the quote on that line; a quote inside a quoted cell is written twice: ""'
    return DataInvalid(f"{name}:{line}: a quote opens here that is not closed as CSV asks", hint, code="broken_quote")


def _opening_line(text: str, lines: list[str], start: int) -> int:
    """The line of the first cell, from the record at line ``start`` on, that is no well-formed cell."""
    position = sum(map(len, lines[: start - 1]))
    while (cell := _CELL.match(text, position)) and cell.end() > position:
        position = cell.end()
    return len(_LINE_END.findall(text, 0, position)) + 1
