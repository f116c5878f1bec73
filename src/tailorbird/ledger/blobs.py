"""Blob storage in a local folder or any file system of fsspec.

A blob lies under ``ab/cd/abcd…``. It is whole or not there: locally it is written under another name, flushed to the disk and renamed;
object stores show an object when its upload ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from uuid import uuid4

from tailorbird.domain.errors import Conflict, Unavailable
from tailorbird.system.files import OWNER_READS, clear_stale, copy_rest, flush, flush_path, private_folder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
from tailorbird.crypto.sealed_stream import SealedNames, derive, plain_size, read_label, sealing, unsealing
from tailorbird.domain.identity import DataKey

_BLOB = re.compile(r"/?(?P<first>[0-9a-f]{2})/(?P<second>[0-9a-f]{2})/(?P=first)(?P=second)[0-9a-f]{60}$")


class Blobs(Protocol):
    """Bytes by a name of 64 hexadecimal digits, the hash of what is stored. Errors of the storage come out as Unavailable.

    ``authenticated``: what is read to its end is what was stored under that name, or reading raises Corrupt; else whoever reads must hash.
    """

    authenticated: bool

    def size(self, name: str) -> int | None:
        """Bytes stored under ``name``; None when there is nothing."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A stream of what is stored under ``name``. Raises FileNotFoundError."""
        ...

    def add(self, name: str, source: IO[bytes]) -> None:
        """Stores the rest of ``source`` under ``name``, in place of what is there. Raises Conflict when it does not have that hash."""
        ...

    def remove(self, name: str) -> bool:
        """Removes what is stored under ``name``; False when there is nothing."""
        ...

    def names(self) -> Iterator[str]:
        """Every name under which something is stored."""
        ...

    def local(self, name: str) -> Path | None:
        """The file on this machine that holds the bytes; None where there is none."""
        ...

    def drop_abandoned(self) -> None:
        """Removes from this machine what processes that were killed had half stored."""
        ...


class LocalBlobs:
    """Blobs in a folder. ``hashed``: what is added must have the hash that it is named by."""

    authenticated = False

    def __init__(self, root: Path, *, hashed: bool = True) -> None:
        self._root = root
        self._hashed = hashed

    def size(self, name: str) -> int | None:
        """Bytes stored under ``name``."""
        with storage_errors(self._root):
            try:
                return self.local(name).stat().st_size
            except FileNotFoundError:
                return None

    def open(self, name: str) -> IO[bytes]:
        """A stream of the file."""
        return self.local(name).open("rb")

    def add(self, name: str, source: IO[bytes]) -> None:
        """Writes to another name, flushes, renames, and flushes the folder: afterwards neither a kill nor a power loss takes it away."""
        with storage_errors(self._root):
            place = self.local(name)
            with _held(self._root) as (partial, target):
                _copy(source, target, name if self._hashed else None)
                flush(target)
                partial.chmod(OWNER_READS)
                private_folder(place.parent)
                partial.replace(place)
            flush_path(place.parent)

    def remove(self, name: str) -> bool:
        """Removes the file, and flushes the folder's list of names."""
        with storage_errors(self._root):
            place = self.local(name)
            try:
                place.unlink()
            except FileNotFoundError:
                return False
            flush_path(place.parent)
            return True

    def names(self) -> Iterator[str]:
        """Every name under which a file lies."""
        with storage_errors(self._root):
            for path in self._root.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
                if _is_blob(path.relative_to(self._root).as_posix()):
                    yield path.name

    def local(self, name: str) -> Path:
        """Path of the file, present or not."""
        return self._root / name[:2] / name[2:4] / name

    def drop_abandoned(self) -> None:
        """Removes unfinished files that no process holds."""
        with storage_errors(self._root):
            _drop_abandoned(self._root)


class RemoteBlobs:
    """Blobs behind an fsspec file system. ``hashed``: as for a folder. ``spool`` is the folder on this machine for what is being uploaded:
    weights may be larger than a system's folder for temporary files."""

    authenticated = False

    def __init__(self, files: Any, root: str, spool: Path, *, hashed: bool = True) -> None:
        self._files = files
        self._root = root.rstrip("/")
        self._spool = spool
        self._hashed = hashed

    def size(self, name: str) -> int | None:
        """Bytes stored under ``name``."""
        with storage_errors(self._root):
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def open(self, name: str) -> IO[bytes]:
        """A stream of the object."""
        stream: IO[bytes] = self._files.open(self._path(name), "rb")
        return stream

    def add(self, name: str, source: IO[bytes]) -> None:
        """Uploads from a checked copy, so that a source that breaks off leaves nothing; the object shows when the upload has ended."""
        with storage_errors(self._root):
            with _held(self._spool) as (spooled, copy):
                with storage_errors(self._spool):
                    _copy(source, copy, name if self._hashed else None)
                    copy.flush()
                self._files.put_file(str(spooled), self._path(name))

    def remove(self, name: str) -> bool:
        """Removes the object."""
        with storage_errors(self._root):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return False
            return True

    def names(self) -> Iterator[str]:
        """Every name under which an object lies."""
        with storage_errors(self._root):
            try:
                for path in self._files.find(self._root):
                    if _is_blob(path.removeprefix(self._root)):
                        yield path.rpartition("/")[2]
            except FileNotFoundError:  # nothing was ever stored
                return

    def local(self, _name: str) -> None:
        """Nothing of it lies on this machine."""

    def drop_abandoned(self) -> None:
        """Removes files that wait to be uploaded, and that no process holds."""
        with storage_errors(self._spool):
            _drop_abandoned(self._spool)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name[:2]}/{name[2:4]}/{name}"


def _is_blob(path: str) -> bool:
    """True for what has, below the root, the place and the name of a blob."""
    return _BLOB.fullmatch(path) is not None


def _copy(source: IO[bytes], target: IO[bytes], name: str | None) -> None:
    """Copies, and raises Conflict when the bytes turn out not to have the hash ``name``, where one is given."""
    copy_rest(source if name is None else cast(IO[bytes], HashedReader(source, name)), target)


class HashedReader(io.RawIOBase):
    """Reads ``source``, and raises Conflict at its end when the bytes do not have the hash ``name``: it changed since it was hashed."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._name = name
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Bytes put into ``buffer``; 0 at the end."""
        target = memoryview(buffer).cast("B")
        count: int = self._source.readinto(target)  # type: ignore[attr-defined]
        self._hash.update(target[:count])
        if not count and len(target) and self._hash.hexdigest() != self._name:
            raise Conflict("a file changed while it was being stored", "store it again when nothing writes to it any more")
        return count


def unfinished(folder: Path) -> Path:
    """A fresh name in ``folder`` for work that is renamed when it is whole; clears away what dead processes left there long ago."""
    nursery = folder / "unfinished"
    private_folder(nursery)
    clear_stale(nursery.iterdir())
    return nursery / uuid4().hex


@contextmanager
def _held(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file among the unfinished work of ``folder``, held while it is open; afterwards it is gone, if it was not renamed."""
    while True:
        path = unfinished(folder)
        with path.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:
                continue  # taken for abandoned before it was held
            try:
                yield path, file
            finally:
                path.unlink(missing_ok=True)
            return


def _opened_to_lock(path: Path) -> IO[bytes]:
    """Open for writing, where its owner may: NFS locks no other file alone."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _drop_abandoned(folder: Path) -> None:
    """Removes plain files from the unfinished work of ``folder`` that nobody holds."""
    for path in (folder / "unfinished").glob("*"):
        with suppress(FileNotFoundError, BlockingIOError):
            if path.is_file() and not path.is_symlink():
                with _opened_to_lock(path) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


@contextmanager
def storage_errors(place: Path | str) -> Iterator[None]:
    """Raises errors of the operating system, or of a remote store, as Unavailable with what to do."""
    try:
        yield
    except OSError as error:
        raise _meaning(error, place) from error


def _meaning(error: OSError, place: Path | str) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"no space is left for artifacts in {place}", "free some space, then run the same command again", code="disk_full"
        )
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        hint = "give this user the right to read and write there, or set another place for artifacts"
        return Unavailable(f"artifacts in {place} may not be read or written", hint, code="storage_forbidden")
    reason = error.strerror or type(error).__name__
    return Unavailable(f"the artifacts in {place} cannot be reached: {reason}", "check the place and try again", code="storage_unreachable")


class SealedBlobs:
    """Implements ``Blobs``: names are hashes of plaintext; what is stored below is neither.

    A blob is stored under a keyed hash of its name, encrypted for that very name: names cannot be compared with guesses, and a file that
    was exchanged for another is refused. The name is the label of the file, for whoever lists them. Sizes are as they are. Only what has
    the hash of its name is ever encrypted for it, so that what is decrypted need not be hashed again.
    """

    authenticated = True

    def __init__(self, files: Blobs, key: DataKey) -> None:
        self._files = files
        self._names, self._key = SealedNames(key), derive(key, "files")

    def size(self, name: str) -> int | None:
        """Bytes of plaintext under ``name``; -1 where a file of that size can be none of ours."""
        size = self._files.size(self._names.of(name))
        return None if size is None else plain_size(size)

    def open(self, name: str) -> IO[bytes]:
        """A stream of the plaintext; reading it raises Corrupt. Raises FileNotFoundError."""
        sealed = self._names.of(name)
        return unsealing(self._files.open(sealed), self._key, sealed.encode())

    def add(self, name: str, source: IO[bytes]) -> None:
        """Encrypts and stores the rest of ``source``. Raises Conflict when it does not have the hash ``name``."""
        sealed = self._names.of(name)
        checked = cast(IO[bytes], HashedReader(source, name))
        self._files.add(sealed, sealing(checked, self._key, sealed.encode(), bytes.fromhex(name)))

    def remove(self, name: str) -> bool:
        """Removes the file of ``name``."""
        return self._files.remove(self._names.of(name))

    def names(self) -> Iterator[str]:
        """Every name, read from the labels. Raises Corrupt."""
        for sealed in self._files.names():
            with self._files.open(sealed) as stream:
                yield read_label(stream, self._key, sealed.encode()).hex()

    def local(self, _name: str) -> None:
        """No file of this machine holds the plaintext."""

    def drop_abandoned(self) -> None:
        """Of the encrypted files below."""
        self._files.drop_abandoned()
