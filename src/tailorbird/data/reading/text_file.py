"""A data file's lines as text.

In: a file. Out: its lines one by one, or why they cannot be read, with the line. Must not know: rows, columns.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Literal

from tailorbird.data.reading.data_file import DataFile, empty
from tailorbird.data.reading.encodings import guess_encoding
from tailorbird.domain.errors import DataInvalid

#: A line of more characters than this is no line of a text file; nothing longer is ever in memory.
LONGEST_LINE = 100_000_000


def text_lines(file: DataFile, ends: Literal["", "\n"], start: int = 0) -> Iterator[str]:
    r"""The lines of ``file`` from byte ``start`` on, with their ends, without a byte order mark; ``ends`` is ``""`` where ``\r`` ends one
    too.

    Raises DataInvalid when the file is blank, binary, or not written in its encoding, and for a line that is too long to be one.
    """
    blank, number = True, 0
    try:
        with file.path.open("rb") as found, io.TextIOWrapper(found, encoding=_codec(file, start), newline=ends) as stream:
            found.seek(start)
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                _check(file, number, line)
                blank = blank and not line.strip(" \t\r\n\ufeff")
                yield line.removeprefix("\ufeff") if number == 1 and not start else line
    except UnicodeError as error:
        place = _line_that_is_no_text(file) if file.encoding.lower() == "utf-8" else number + 1
        message = f"{file.name}:{place}: not {file.encoding.upper()}"
        raise DataInvalid(message, _encoding_hint(file), code="file_encoding") from error
    if blank:
        raise empty(file.name)


def _check(file: DataFile, number: int, line: str) -> None:
    if "\0" in line:
        raise DataInvalid(f"{file.name}:{number}: binary content, not text", _encoding_hint(file), code="file_binary")
    if len(line) > LONGEST_LINE:
        message = f"{file.name}:{number}: a line of more than {LONGEST_LINE:,} characters"
        raise DataInvalid(message, "write one record a line; split documents before", code="line_too_long")


def _codec(file: DataFile, start: int) -> str:
    try:
        name = codecs.lookup(file.encoding).name
    except LookupError as error:
        message = f"{file.name}: there is no encoding {file.encoding!r}"
        raise DataInvalid(message, "use utf-8, utf-16, cp1252, latin-1, ...", code="file_encoding") from error
    return "utf-8-sig" if name == "utf-8" and not start else name


def _line_that_is_no_text(file: DataFile) -> int:
    """The first line that does not decode: the decoder itself knows only its place in a block."""
    with file.path.open("rb") as stream:
        return next((number for number, line in enumerate(stream, start=1) if not _decodes(line)), 0)


def _decodes(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encoding_hint(file: DataFile) -> str:
    likely = guess_encoding(file.path)
    if likely is None:
        return "this is no text file; save the data as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"
    if likely == "utf-8":
        return "save the file as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"
    return f"save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8'), or set `encoding: {likely}` if that is what it is"
