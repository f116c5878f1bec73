"""Data files: opened with their digests, unpacked, and read as lines of text; and the records that every format yields."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.value import Digest
from tailorbird.system.files import digest_file, held_folder
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call


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
    return DataInvalid(f"{name}: the file is empty", "give a file with at least a few rows for each label")


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


#: How a compressed file begins.
GZIP = b"\x1f\x8b"
#: What comes out of a file may have so many times its bytes, and so many more.
MOST_TIMES, MOST_BYTES = 100, 1 << 26
_BLOCK = 1 << 20


@contextmanager
def unpacked(name: str, path: Path) -> Iterator[Path]:
    """Where the content of the gzip file at ``path`` lies until the end of the ``with`` block.

    Raises DataInvalid for a damaged file, and one that expands beyond measure (``file_expands``).
    """
    size = path.stat().st_size
    most = MOST_BYTES + MOST_TIMES * size
    with held_folder("tailorbird-unpacked-") as folder:
        target = folder / "data"
        limits = replace(SandboxLimits.for_bytes(size), written=most + _BLOCK, space=most + _BLOCK)
        given = {"name": name, "path": str(path.absolute()), "target": str(target), "most": most}
        call(SandboxJob(f"{__name__}:unpack", given, limits, name, DataInvalid, places=(str(folder),)))
        if not target.is_file():
            raise _damaged(name)
        yield target


def unpack(given: dict[str, Any]) -> Iterator[bool]:
    """Unpacks in a confined process. Raises DataInvalid."""
    left = given["most"]
    try:
        with gzip.open(given["path"]) as stream, Path(given["target"]).open("wb") as out:
            while block := stream.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    hint = f"it may hold {MOST_TIMES} times its size and {MOST_BYTES:,} bytes more: unpack it"
                    raise DataInvalid(f"{given['name']}: a small file that expands to gigabytes", hint, code="file_expands")
                out.write(block)
        yield True
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(given["name"]) from error


def _damaged(name: str) -> DataInvalid:
    return DataInvalid(f"{name}: it cannot be unpacked", "the file is damaged, or of another kind: write it again", code="file_broken")


#: Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Few letters beyond ASCII stand in longer runs where letters are Latin, and most in any other script; runs looked at.
_BEYOND, _RUN, _RUNS = re.compile(rb"[\x80-\xff]+"), 3, 100_000
#: Control characters that no text has; bytes that Windows-1252 does not use.
_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}
_NOT_CP1252 = frozenset({0x81, 0x8D, 0x8F, 0x90, 0x9D})


def guess_encoding(path: Path) -> str | None:
    """``utf-8``, ``utf-16``, ``utf-32`` (by their mark, or by where zeros stand), or ``cp1252`` for Latin letters; None for binary content
    and for text in another legacy encoding: which one cannot be known.

    Reads the whole file, a block at a time: a letter that is no UTF-8 may stand at its very end.
    """
    with path.open("rb") as stream:
        start = stream.read(4096)
    odd, even = start[1::2], start[::2]
    if marked := next((name for mark, name in _MARKS if start.startswith(mark)), None):
        return marked
    # UTF-16 without a mark: of most letters of Western languages every second byte is zero.
    if len(odd) > 1 and odd.count(0) > 0.6 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > 0.6 * len(even) and not odd.count(0):
        return "utf-16-be"
    if _is_utf8(path):
        return "utf-8"
    used, runs = set[int](), list[bytes]()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            used.update(block)
            # One byte that is repeated is a dash or a line that somebody drew.
            runs += [run if len({*run}) > 1 else run[:1] for run in _BEYOND.findall(block)] if len(runs) < _RUNS else []
    long = sum(len(run) for run in runs if len(run) > _RUN)
    return "cp1252" if 0 < sum(map(len, runs)) > 3 * long and not used & (_CONTROLS | _NOT_CP1252) else None


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            while block := stream.read(_BLOCK):
                if "\0" in block:
                    return False
    except UnicodeDecodeError:
        return False
    return True


_ENCODING_HINT = "save it as UTF-8 text (in a spreadsheet: 'CSV UTF-8'), or set `encoding` to what it is written in: cp1252, utf-16, ..."
#: A line of more characters than this is no line of a text file; nothing longer is ever in memory.
LONGEST_LINE = 100_000_000


def text_lines(file: DataFile, ends: Literal["", "\n"]) -> Iterator[str]:
    r"""The lines of ``file`` with their ends, without a byte order mark; ``ends`` is ``""`` where ``\r`` ends one too.

    Raises DataInvalid when the file is blank, binary, or not written in its encoding, and for a line that is too long to be one.
    """
    blank, number = True, 0
    try:
        encoding = codecs.lookup(file.encoding).name
        with file.path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline=ends) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if "\0" in line:
                    raise DataInvalid(f"{file.name}:{number}: binary content, not text", _ENCODING_HINT, code="file_binary")
                if len(line) > LONGEST_LINE:
                    message = f"{file.name}:{number}: a line of more than {LONGEST_LINE:,} characters"
                    raise DataInvalid(message, "write one record a line; split documents before", code="line_too_long")
                blank = blank and not line.strip(" \t\r\n\ufeff")
                yield line.removeprefix("\ufeff") if number == 1 else line
    except LookupError as error:
        message = f"{file.name}: there is no encoding {file.encoding!r}"
        raise DataInvalid(message, "use utf-8, utf-16, cp1252, latin-1, ...", code="file_encoding") from error
    except UnicodeError as error:
        place = number + 1
        if encoding == "utf-8":  # the decoder itself knows only its place in a block
            with file.path.open("rb") as data:
                place = next((at for at, line in enumerate(data, start=1) if line.decode("utf-8", "ignore").encode() != line), 0)
        raise DataInvalid(f"{file.name}:{place}: not {file.encoding.upper()}", _ENCODING_HINT, code="file_encoding") from error
    if blank:
        raise empty(file.name)


FOLDER = "folder"
SUFFIX = ".txt"
#: What counts as a text file.
SUFFIXES = (SUFFIX, ".md")
#: A file of more bytes than this is no single text.
LARGEST = 16_000_000


@contextmanager
def open_folder(name: str, path: Path) -> Iterator[DataFile]:
    """The folder at ``path``; its digest covers every file's path and bytes. Raises DataInvalid when it holds no text file."""
    files = _files_below(path)
    if not any(file.suffix.lower() in SUFFIXES for file in files):
        hint = (
            f"put each text into a file of its own, LABEL/NAME{SUFFIX}; other files of a folder are sources of their own, one by one, as "
            "`tailorbird init --from FOLDER` writes them"
        )
        raise DataInvalid(f"{name}: the folder has no {SUFFIX} file", hint)
    try:
        digests = {str(file.relative_to(path)): digest_file(file) for file in files}
    except OSError as error:
        message = f"{name}: {error.filename} cannot be read: {error.strerror}"
        raise DataInvalid(message, "make every file of the folder readable", code="file_missing") from error
    yield DataFile(name, path, digest_of(digests), FOLDER)


def read_folder(folder: DataFile, _: Collection[str]) -> Records:
    """A record a text file, in the order of their paths: ``text``, and ``label`` for those in a sub-folder.

    Files of other kinds, and those that are no UTF-8, are set aside. Raises DataInvalid when a file changes while it is read.
    """
    read: dict[str, str] = {}
    for path in _files_below(folder.path):
        inside = path.relative_to(folder.path)
        name, data = f"{folder.name.rstrip('/')}/{inside.as_posix()}", path.read_bytes() if path.stat().st_size <= LARGEST else b""
        read[str(inside)] = digest_bytes(data) if data else digest_file(path)
        code, reason, text = "", "", data.decode("utf-8-sig", "replace")
        if inside.suffix.lower() not in SUFFIXES:
            code, reason = "file_kind", f"the file does not end in {' or '.join(SUFFIXES)}"
        elif path.stat().st_size > LARGEST:
            code, reason = "file_too_large", f"the file has more than {LARGEST:,} bytes"
        elif text.encode() != data.removeprefix(codecs.BOM_UTF8):
            code, reason = "file_encoding", "the file is not UTF-8 text"
        elif "\0" in text:
            code, reason = "file_binary", "binary content, not text"
        if code:
            yield Quarantined(file=name, line=1, code=code, reason=reason)
        else:
            label = inside.parts[0] if len(inside.parts) > 1 else None
            yield Record(1, {"text": text, "label": label}, DataFile(name, path, read[str(inside)], SUFFIX))
    if digest_of(read) != folder.digest:
        raise changed(folder.name)


def _files_below(folder: Path) -> list[Path]:
    """Every file below ``folder`` that is not hidden; links are not followed out of it."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
