"""Reader of one part of a file: its end, where it has grown since it was read, or a stretch of it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

from tailorbird.data.readers import csv_file, json_files
from tailorbird.data.readers.data_file import DataFile, Record, Records
from tailorbird.data.readers.text_files import text_lines
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.value import Digest

#: Formats that grow line by line, and encodings in which an end of a line is one byte.
GROWING, PLAIN = {".csv": ",", ".tsv": "\t", ".jsonl": ""}, ("utf-8", "utf8", "cp1252", "latin-1")
_BLOCK = 1 << 22


def lines_before(file: DataFile, size: int, digest: Digest) -> int | None:
    """How many lines the first ``size`` bytes of ``file`` hold; None where they are not the whole lines that ``digest`` names."""
    if file.kind not in GROWING or file.encoding.lower() not in PLAIN:
        return None
    hashed, lines, last = hashlib.sha256(), 0, b""
    with file.path.open("rb") as stream:
        while block := stream.read(min(_BLOCK, size)):
            size -= len(block)
            hashed.update(block)
            lines += line_ends(last[-1:] + block, file.kind) - line_ends(last[-1:], file.kind)
            last = block
    whole = not size and last.endswith(b"\n") and "sha256:" + hashed.hexdigest() == digest
    return lines if whole else None


def records_since(file: DataFile, start: int, lines: int, stop: int | None = None) -> Records:
    """The records from byte ``start`` on, which follow ``lines`` lines, up to byte ``stop``, where one must end. Raises DataInvalid as
    reading does."""
    header = _header(file) if start else []
    for record in _parsed(file, header, text_lines(file, _line_end(file), start, stop)):
        shift = lines - len(header)
        yield record.model_copy(update={"line": record.line + shift}) if isinstance(record, Quarantined) else _moved(record, shift)


def record_at(file: DataFile, line: int) -> Record | Quarantined:
    """The record that starts on ``line``."""
    lines = text_lines(file, _line_end(file))
    for _ in range(line - 1):
        next(lines)
    return next(iter(_parsed(file, _header(file), lines)))


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
