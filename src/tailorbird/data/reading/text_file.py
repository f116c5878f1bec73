"""A data file's lines as text.

In: a file. Out: its lines one by one, or why they cannot be read, with the line. Must not know: rows, columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tailorbird.data.reading.data_file import DataFile, empty
from tailorbird.domain.errors import DataInvalid


def text_lines(file: DataFile, ends: Literal["", "\n"]) -> Iterator[str]:
    r"""The lines of ``file`` with their ends, as UTF-8 (with or without a byte order mark); ``ends`` is ``""`` where ``\r`` ends one too.

    Raises DataInvalid when the file is blank, binary or not UTF-8.
    """
    blank = True
    try:
        with file.path.open(encoding="utf-8-sig", newline=ends) as stream:
            for number, line in enumerate(stream, start=1):
                if "\0" in line:
                    raise DataInvalid(f"{file.name}:{number}: binary content, not text", _encoding_hint(file.path), code="file_binary")
                blank = blank and not line.strip(" \t\r\n\ufeff")
                yield line
    except UnicodeDecodeError as error:
        message = f"{file.name}:{_line_that_is_no_text(file.path)}: not UTF-8"
        raise DataInvalid(message, _encoding_hint(file.path), code="file_encoding") from error
    if blank:
        raise empty(file.name)


def _line_that_is_no_text(path: Path) -> int:
    """The first line that does not decode: the decoder itself knows only its place in a block."""
    with path.open("rb") as stream:
        return next((number for number, line in enumerate(stream, start=1) if not _decodes(line)), 0)


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encoding_hint(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(2)
    if start in (b"\xff\xfe", b"\xfe\xff"):
        return "the file is UTF-16: save it as UTF-8"
    return "save the file as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"
