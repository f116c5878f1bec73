"""A folder of text files: each file is a row, and the folder that it lies in is its label.

    reviews/praise/0001.txt     the text of one row, labelled "praise"

In: a folder. Out: records. Must not know: labels that the objective knows, splits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tailorbird.data.reading.data_file import DataFile, changed
from tailorbird.data.reading.record import Record, Records
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.foundations.canonical import digest_bytes, digest_of
from tailorbird.foundations.disk import digest_file

FOLDER = "folder"
SUFFIX = ".txt"
#: What counts as a text file.
SUFFIXES = (SUFFIX, ".md")
#: A file of more bytes than this is no single text.
LARGEST = 16_000_000


@contextmanager
def held_folder(name: str, path: Path) -> Iterator[DataFile]:
    """The folder at ``path``; its digest covers every file's path and bytes. Raises DataInvalid when it holds no text file."""
    files = _files(path)
    if not any(file.suffix.lower() in SUFFIXES for file in files):
        hint = f"put each text into a file of its own, LABEL/NAME{SUFFIX}; other files of a folder are named one by one"
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
