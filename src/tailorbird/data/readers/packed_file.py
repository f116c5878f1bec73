"""Compressed files: one file in ``.gz`` or ``.zip``, unpacked by a confined process that may write so much and no more."""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tailorbird.domain.errors import DataInvalid
from tailorbird.system.files import held_folder
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call

#: Formats by their suffix, and how they begin.
BEGINNINGS = {".gz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
#: What comes out of a file may have so many times its bytes, and so many more.
MOST_TIMES, MOST_BYTES = 100, 1 << 26
_BLOCK = 1 << 20
#: Files of an archive that a refusal names.
_NAMED, _NAME = 5, 80
#: What names in an archive say is shown of them alone.
_SUFFIX = re.compile(r"\.[a-z0-9_]{1,16}")
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, ValueError)


def is_packed(name: str) -> bool:
    """True for the name of a compressed file."""
    return PurePosixPath(name).suffix.lower() in BEGINNINGS


@contextmanager
def unpacked(name: str, path: Path, kind: str) -> Iterator[tuple[Path, str]]:
    """Where what lies in the file at ``path`` is until the end of the ``with`` block, and the suffix of its name in an archive, if that is
    a plain one.

    Raises DataInvalid for a damaged file, one that expands beyond measure (``file_expands``), and an archive of several files, or none.
    """
    size = path.stat().st_size
    most = MOST_BYTES + MOST_TIMES * size
    with held_folder("tailorbird-unpacked-") as folder:
        target = folder / "data"
        limits = replace(SandboxLimits.for_bytes(size), written=most + _BLOCK, space=most + _BLOCK)
        given = {"name": name, "path": str(path.absolute()), "kind": kind, "target": str(target), "most": most}
        told = call(SandboxJob(f"{__name__}:unpack", given, limits, name, DataInvalid, places=(str(folder),)))
        if not isinstance(told, str) or not target.is_file():
            raise _damaged(name)
        yield target, told if _SUFFIX.fullmatch(told) else ""


def unpack(given: dict[str, Any]) -> Iterator[str]:
    """Unpacks in a confined process; yields the suffix of what was inside. Raises DataInvalid."""
    name, path = given["name"], Path(given["path"])
    try:
        if given["kind"] == ".gz":
            with gzip.open(path) as found:
                _copy(found, given)
            yield ""
            return
        with zipfile.ZipFile(path) as archive:
            inside = _only(name, archive)
            if not _begins(path, given["kind"]):
                raise _damaged(name)
            with archive.open(inside) as found:
                _copy(found, given)
            yield PurePosixPath(inside.filename).suffix.lower()
    except DataInvalid:
        raise
    except _DAMAGED as error:
        raise _damaged(name) from error


def _only(name: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file in it, beside what systems add."""
    shown = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    if len(shown) != 1:
        listed = ", ".join(ascii(info.filename[:_NAME]) for info in shown[:_NAMED])
        hint = f"unpack it, and name one of its files{f': {listed}' if listed else ''}{', …' if len(shown) > _NAMED else ''}; or its folder"
        raise DataInvalid(f"{name}: an archive of {len(shown):,} files, where one is read", hint, code="file_kind")
    if shown[0].flag_bits & 1:
        raise DataInvalid(f"{name}: an archive with a password", "unpack it, and name the file", code="file_kind")
    return shown[0]


def _begins(path: Path, kind: str) -> bool:
    """True where nothing stands in front: by its beginning whoever searches the file knows what it is (``file_texts``)."""
    with path.open("rb") as file:
        return file.read(len(BEGINNINGS[kind])) == BEGINNINGS[kind]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _copy(found: IO[bytes] | gzip.GzipFile, given: dict[str, Any]) -> None:
    left = given["most"]
    with Path(given["target"]).open("wb") as out:
        while block := found.read(_BLOCK):
            left -= len(block)
            if left < 0:
                hint = f"it may hold {MOST_TIMES} times its size and {MOST_BYTES:,} bytes more: unpack it"
                raise DataInvalid(f"{given['name']}: a small file that expands to gigabytes", hint, code="file_expands")
            out.write(block)


def _damaged(name: str) -> DataInvalid:
    return DataInvalid(f"{name}: it cannot be unpacked", "the file is damaged, or of another kind: write it again", code="file_broken")
