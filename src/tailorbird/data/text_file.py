"""The bytes of a data file as text.

In: a path as the objective names it. Out: its text and digest, or why it cannot be read, with the line. Must not know: rows, columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_bytes

#: Suffixes of the formats that can be read.
SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True)
class TextFile:
    """A file's content. ``name`` is its path as the objective names it; ``digest`` is that of the bytes."""

    name: str
    text: str
    digest: Digest


def read_text_file(name: str, folder: Path) -> TextFile:
    """The file ``name``, relative to ``folder`` unless absolute, as UTF-8 (with or without a byte order mark).

    Raises DataInvalid when its kind is not supported, or when it is missing, empty, binary or not UTF-8.
    """
    _check_kind(name)
    data = _bytes(name, folder / name)
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataInvalid(f"{name}: the file is empty", "give a file with at least a few rows for each label", code="file_empty")
    if b"\0" in data:
        raise DataInvalid(f"{name}:{_line_at(data, data.index(0))}: binary content, not text", _encoding_hint(data), code="file_binary")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataInvalid(f"{name}:{_line_at(data, error.start)}: not UTF-8", _encoding_hint(data), code="file_encoding") from error
    return TextFile(name, text, digest_bytes(data))


def _check_kind(name: str) -> None:
    if "://" in name:
        hint = "download the file, and name its local path"
        raise DataInvalid(f"{name}: this version reads local files only", hint, code="not_supported_yet")
    if not name.lower().endswith(SUFFIXES):
        hint = f"give a file that ends in {' or '.join(SUFFIXES)}; name each file of a folder by itself"
        raise DataInvalid(f"{name}: neither a CSV nor a JSONL file", hint, code="file_kind")


def _bytes(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = "paths are relative to the folder of the objective file"
        raise DataInvalid(f"{name}: there is no such file", hint, code="file_missing") from error
    except OSError as error:
        raise DataInvalid(f"{name}: cannot be read: {error.strerror}", "give the path of a readable file", code="file_missing") from error


def _encoding_hint(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "the file is UTF-16: save it as UTF-8"
    return "save the file as UTF-8 text (in a spreadsheet: 'CSV UTF-8')"


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
