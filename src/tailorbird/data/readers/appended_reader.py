"""Reader of one part of a file: a stretch of it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

from tailorbird.data.readers import csv_file, json_files
from tailorbird.data.readers.data_file import DataFile, Record, Records
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined

#: Formats that are read line by line, and encodings in which an end of a line is one byte.
GROWING, PLAIN = {".csv": ",", ".tsv": "\t", ".jsonl": ""}, ("utf-8", "utf8", "cp1252", "latin-1")


def records_since(file: DataFile, start: int, lines: int, stop: int | None = None) -> Records:
    """The records from byte ``start`` on, which follow ``lines`` lines, up to byte ``stop``, where one must end. Raises DataInvalid as
    reading does."""
    header = _header(file) if start else []
    for record in _parsed(file, header, text_lines(file, _line_end(file), start, stop)):
        shift = lines - len(header)
        yield record.model_copy(update={"line": record.line + shift}) if isinstance(record, Quarantined) else _moved(record, shift)


def _parsed(file: DataFile, header: list[str], lines: Iterator[str]) -> Records:
    if file.kind == ".jsonl":
        return json_files.parse_jsonl(file.name, lines)
    return csv_file.parse(file.name, chain(header, lines), _separator(file))


def _line_end(file: DataFile) -> Literal["", "\n"]:
    return "\n" if file.kind == ".jsonl" else ""


def _separator(file: DataFile) -> str:
    return file.separator or GROWING[file.kind]


def _header(file: DataFile) -> list[str]:
    """The lines up to the end of the header; none in JSONL."""
    if file.kind == ".jsonl":
        return []
    read: list[str] = []

    def kept() -> Iterator[str]:
        for line in text_lines(file, ""):
            read.append(line)
            yield line

    next(cells for cells in csv.reader(csv_file.without_mark(kept()), delimiter=_separator(file), strict=True) if cells)
    return read


def _moved(record: Record, shift: int) -> Record:
    return replace(record, line=record.line + shift)


def line_ends(data: bytes, kind: str) -> int:
    """Ends of lines; of JSONL only line feeds are."""
    if kind == ".jsonl":
        return data.count(b"\n")
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
