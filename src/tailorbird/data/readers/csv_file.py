"""CSV (RFC 4180) and TSV, with the line on which each record starts.

Quotes are taken strictly: a quote that is never closed, or closed in the middle of a cell, would otherwise swallow rows in silence.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from tailorbird.data.readers.data_file import DataFile, Record, Records
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid

#: A record over more lines than this is looked at: are most of its lines records themselves?
SUSPICIOUS_LINES = 10

_MARK = re.compile(r'"?sep=[^\s"]"?[,;]*\s*', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n?|\n")


def read_csv(file: DataFile, _: Collection[str]) -> Records:
    """The records of a CSV file, as ``parse``."""
    return parse(file.name, text_lines(file, ""), file.separator or ",")


def read_tsv(file: DataFile, _: Collection[str]) -> Records:
    """The records of a TSV file, as ``parse``."""
    return parse(file.name, text_lines(file, ""), file.separator or "\t")


def parse(name: str, lines: Iterable[str], separator: str) -> Records:
    """The records in ``lines``. Blank lines are no records, nor is a first line ``sep=;``, by which spreadsheets tell the separator; one
    with another number of cells than the header is set aside, unless no cell says anything: it is blank then (``is_blank``); the header
    is, where it stands there again.

    Raises DataInvalid when a quote is broken (with the line where it opened) or when two columns share a name.
    """
    columns: list[str] | None = None
    for line, cells in _records(name, _NumberedLines(without_mark(lines)), separator):
        if columns is None:
            columns = _header(name, cells)
            continue
        if _repeats(cells, columns):
            reason = "the header stands here again: files were joined, each with its own"
            yield Quarantined(file=name, line=line, code="header_again", reason=reason)
        elif len(cells) == len(columns) or (len(cells) > len(columns) and not any(map(str.strip, cells))):
            yield Record(line, dict(zip(columns, cells, strict=False)))
        else:
            reason = f"{len(cells)} cells where the header has {len(columns)}"
            yield Quarantined(file=name, line=line, code="wrong_cell_count", reason=reason)


def _repeats(cells: list[str], columns: list[str]) -> bool:
    """True for the header once more, with or without the byte order mark of the file that it began."""
    return cells[-1] == columns[-1] and [cells[0].removeprefix("\ufeff"), *cells[1:]] == columns


def without_mark(lines: Iterable[str]) -> Iterator[str]:
    """``lines``, with a blank one in place of a first one that says the separator."""
    for number, line in enumerate(lines):
        yield "\n" if number == 0 and _MARK.fullmatch(line) else line


class _NumberedLines:
    """Lines one by one, keeping those of the record that is being read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.kept: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.kept.append(line)
        return line


def _header(name: str, cells: list[str]) -> list[str]:
    for cell, count in Counter(cells).items():
        if cell and count > 1:
            raise DataInvalid(
                f"{name}:1: the column {cell[:40]!r} stands in the header twice", "rename one of the two", code="column_twice"
            )
    return cells


def _records(name: str, lines: _NumberedLines, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every record, the header first."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    start, width = 1, 0
    try:
        for cells in reader:
            width = width or len(cells)
            if len(lines.kept) > SUSPICIOUS_LINES and _swallowed(lines.kept, width, separator):
                raise _broken_quote(name, start)
            if cells:
                yield start, cells
            start = reader.line_num + 1
            lines.kept.clear()
    except csv.Error as error:
        raise _broken_quote(name, start + _opening_line(lines, separator)) from error


def _swallowed(inner: list[str], width: int, separator: str) -> bool:
    """True when four in five lines inside one record have as many cells as the header: they are rows that a quote has swallowed."""
    if width < 2:
        return False
    alike = sum(len(next(csv.reader([line], delimiter=separator), [])) == width for line in inner)
    return alike >= 0.8 * len(inner)


def _broken_quote(name: str, line: int) -> DataInvalid:
    longest = f"a cell has at most {csv.field_size_limit():,} characters"
    hint = f'close the quote on that line; a quote inside a quoted cell is written twice: ""; {longest}'
    return DataInvalid(f"{name}:{line}: a quote opens here that is not closed as CSV asks", hint, code="broken_quote")


def _opening_line(lines: _NumberedLines, separator: str) -> int:
    """How many lines below the record's first one the first cell begins that is not well-formed."""
    text = "".join(lines.kept)
    mark = re.escape(separator)
    form = re.compile(rf'(?:"[^"]*(?:""[^"]*)*"|[^"{mark}\r\n][^{mark}\r\n]*|)(?:{mark}|\r\n?|\n|\Z)')
    position = 0
    while (cell := form.match(text, position)) and cell.end() > position:
        position = cell.end()
    return len(_LINE_END.findall(text, 0, position))
