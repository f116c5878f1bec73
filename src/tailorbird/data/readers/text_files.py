"""Text files: the lines of one, a folder of them whose subfolders are the labels, and detection of their encoding."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.data.readers.data_file import DataFile, Record, Records, changed, empty
from tailorbird.data.readers.legacy_encodings import legacy_encoding
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.files import digest_file

_BLOCK = 1 << 20

#: Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Control characters that no text has; bytes that Windows-1252 does not use.
_CONTROLS = frozenset(range(32)) - {9, 10, 12, 13, 27}
_NOT_CP1252 = frozenset({0x81, 0x8D, 0x8F, 0x90, 0x9D})


def guess_encoding(path: Path) -> str | None:
    """``utf-8``, ``utf-16``, ``utf-32`` (by their mark, or by where zeros stand), that of another script (``legacy_encodings``),
    ``cp1252`` or ``latin-1``; None for binary content.

    Reads the whole file, a block at a time: a letter that is no UTF-8 may stand at its very end.
    """
    with path.open("rb") as stream:
        start = stream.read(4096)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    return marked or _by_zeros(start) or ("utf-8" if _is_utf8(path) else _single_byte(path))


def _by_zeros(start: bytes) -> str | None:
    """UTF-16 without a mark: of most letters of Western languages every second byte is zero."""
    odd, even = start[1::2], start[::2]
    if len(odd) > 1 and odd.count(0) > 0.6 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(even) > 1 and even.count(0) > 0.6 * len(even) and not odd.count(0):
        return "utf-16-be"
    return None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path):
            if 0 in block:
                return False
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _single_byte(path: Path) -> str | None:
    used: set[int] = set()
    for block in _blocks(path):
        used.update(block)
    if used & _CONTROLS:
        return None
    if other := legacy_encoding(path):
        return other
    return "latin-1" if used & _NOT_CP1252 else "cp1252"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


#: A line of more characters than this is no line of a text file; nothing longer is ever in memory.
LONGEST_LINE = 100_000_000


def text_lines(file: DataFile, ends: Literal["", "\n"]) -> Iterator[str]:
    r"""The lines of ``file`` with their ends, without a byte order mark; ``ends`` is ``""`` where ``\r`` ends one too.

    Raises DataInvalid when the file is blank, binary, or not written in its encoding, and for a line that is too long to be one.
    """
    blank, number = True, 0
    try:
        with file.path.open(encoding=_codec(file), newline=ends) as stream:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                _check(file, number, line)
                blank = blank and not line.strip(" \t\r\n\ufeff")
                yield line.removeprefix("\ufeff") if number == 1 else line
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


def _codec(file: DataFile) -> str:
    try:
        name = codecs.lookup(file.encoding).name
    except LookupError as error:
        message = f"{file.name}: there is no encoding {file.encoding!r}"
        raise DataInvalid(message, "use utf-8, utf-16, cp1252, latin-1, ...", code="file_encoding") from error
    return "utf-8-sig" if name == "utf-8" else name


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


FOLDER = "folder"
SUFFIX = ".txt"
#: What counts as a text file.
SUFFIXES = (SUFFIX, ".md")
#: A file of more bytes than this is no single text.
LARGEST = 16_000_000


@contextmanager
def open_folder(name: str, path: Path) -> Iterator[DataFile]:
    """The folder at ``path``; its digest covers every file's path and bytes. Raises DataInvalid when it holds no text file."""
    files = _files(path)
    if not any(file.suffix.lower() in SUFFIXES for file in files):
        hint = (
            f"put each text into a file of its own, LABEL/NAME{SUFFIX}; other files of a folder are sources of their own, one by one, as "
            "`tailorbird init --from FOLDER` writes them"
        )
        raise DataInvalid(f"{name}: the folder has no {SUFFIX} file", hint, code="file_empty")
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
    for path in _files(folder.path):
        inside = path.relative_to(folder.path)
        data = path.read_bytes() if path.stat().st_size <= LARGEST else None
        digest = digest_file(path) if data is None else digest_bytes(data)
        file = DataFile(f"{folder.name.rstrip('/')}/{inside.as_posix()}", path, digest, SUFFIX)
        read[str(inside)] = file.digest
        yield _record(file, inside, data)
    if digest_of(read) != folder.digest:
        raise changed(folder.name)


def _record(file: DataFile, inside: Path, data: bytes | None) -> Record | Quarantined:
    if inside.suffix.lower() not in SUFFIXES:
        return Quarantined(file=file.name, line=1, code="file_kind", reason=f"the file does not end in {' or '.join(SUFFIXES)}")
    if data is None:
        return Quarantined(file=file.name, line=1, code="file_too_large", reason=f"the file has more than {LARGEST:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Quarantined(file=file.name, line=1, code="file_encoding", reason="the file is not UTF-8 text")
    if "\0" in text:
        return Quarantined(file=file.name, line=1, code="file_binary", reason="binary content, not text")
    label = inside.parts[0] if len(inside.parts) > 1 else None
    return Record(1, {"text": text, "label": label}, file)


def _files(folder: Path) -> list[Path]:
    """Every file below ``folder`` that is not hidden; links are not followed out of it."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
