"""Files: digests, durable writes, and permissions for the owner alone."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from tailorbird.domain.value import Digest

#: Modes of what is written: for its owner alone; files that never change cannot be written either.
OWNER_FOLDER, OWNER_FILE, OWNER_READS = 0o700, 0o600, 0o400
#: Bytes that are copied at once.
_BLOCK = 1 << 20
#: After so long, unfinished work is that of a process that was killed.
_STALE_SECONDS = 24 * 3600.0
#: What a file system says that has no locks.
#: What a mode grants to anybody but the owner.
EVERYBODY_ELSE = 0o077


def digest_file(path: Path) -> Digest:
    """``sha256:<hex>`` of a file's bytes, which are read in blocks. Raises OSError."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def known_digest(path: Path) -> Digest:
    """``digest_file``, computed once for a file that has not been changed since, as inode, size and times say: a base model is compared for
    each adapter that is loaded on it. A file that was changed in the last two seconds is read again: another change could have its times.
    Raises OSError."""
    with path.open("rb") as stream:
        before, settled = _identity(stream), time.time_ns() - 2_000_000_000
        if before in _known:
            return _known[before]
        digest = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        if _identity(stream) == before and max(before[3:]) < settled:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[before] = digest
        return digest


#: Digests of files by what ``_identity`` says of them, and how many are kept.
_known: dict[tuple[int, ...], Digest] = {}
_MOST_KNOWN = 8192


def _identity(stream: IO[bytes]) -> tuple[int, ...]:
    at = os.fstat(stream.fileno())
    return at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns


def digest_folder(folder: Path) -> Digest:
    """``sha256:<hex>`` over names and bytes of all files below ``folder``; empty for what is no folder. Raises OSError."""
    if not folder.is_dir():
        return ""
    hashed = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        hashed.update(f"{digest_file(path)} ".encode() + os.fsencode(path.relative_to(folder)) + b"\0")
    return f"sha256:{hashed.hexdigest()}"


def copy_rest(source: IO[bytes], target: IO[bytes]) -> None:
    """Writes the rest of ``source`` to ``target``, by one buffer: memory that is asked for anew is cleared first. Raises OSError."""
    buffer = memoryview(bytearray(_BLOCK))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        target.write(buffer[:count])


def copy_hashed(source: IO[bytes], target: IO[bytes]) -> Digest:
    """Writes the rest of ``source`` to ``target``; the digest of what was written, which is hashed beside the reading. Raises OSError."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(1, "digest") as beside:
        hashed: Future[None] | None = None
        for buffer in cycle((memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK)))):
            piece = buffer[: source.readinto(buffer)]  # type: ignore[attr-defined]
            if hashed is not None:
                hashed.result()
            if not piece:
                break
            hashed = beside.submit(digest.update, piece)
            target.write(piece)
    return f"sha256:{digest.hexdigest()}"


def flush(file: IO[Any]) -> None:
    """Waits until everything written to ``file`` is on the disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def flush_path(path: Path) -> None:
    """Waits until the file at ``path``, or a folder's list of names, is on the disk, where the system can. Raises OSError."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_for_owner_alone() -> None:
    """From now on, whatever this process and its children create is for their owner alone, whoever creates it (a library, a compiler)."""
    os.umask(EVERYBODY_ELSE)


def private_folder(folder: Path) -> Path:
    """``folder``, made where it is missing: it and each missing folder above it for their owner alone, whatever the umask
    (``mkdir(parents=True)`` leaves the upper ones open). One that exists stays as it is. Raises OSError."""
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=OWNER_FOLDER, exist_ok=True)
    return folder


def remove_folder(folder: Path) -> int:
    """Removes ``folder`` with all that is in it, and says how many files that were. What somebody else removes meanwhile is no error; what
    cannot be removed is. Raises OSError."""
    count = 0
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with suppress(FileNotFoundError):
                Path(place, name).unlink()
                count += 1
        for path in (Path(place, name) for name in folders):
            with suppress(FileNotFoundError):
                path.unlink() if path.is_symlink() else path.rmdir()
    if folder.is_dir() and not folder.is_symlink():
        with suppress(FileNotFoundError):
            folder.rmdir()
    return count


def clear_stale(paths: Iterable[Path]) -> None:
    """Removes those of ``paths`` that nobody has changed for a day: unfinished work of processes that were killed. What its owner finishes
    or clears away meanwhile is no error, and what cannot be removed stays."""
    for path in paths:
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()


def is_open_to_others(path: Path) -> bool:
    """True when anybody but the owner has a right on ``path``. Raises OSError."""
    return bool(path.stat().st_mode & EVERYBODY_ELSE)


def bytes_below(folder: Path) -> int:
    """Bytes of all files below ``folder``. Links are not followed; what is deleted meanwhile takes no space."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += (Path(place) / name).lstat().st_size
    return size


#: Where Linux keeps files in memory.
_IN_MEMORY = Path("/dev/shm")
_LOCK = ".lock"
#: A file system in memory of fewer bytes in all (64 MB in many containers) holds no model.
LEAST = 1 << 30


def clear_root(workspace: Path, chosen: Path | None = None) -> Path:
    """The folder for all processes of a workspace: ``chosen``, else in memory, else ``cache`` of the workspace. Raises OSError."""
    if chosen is not None:
        return private_folder(chosen)
    name = hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:16]
    place = _IN_MEMORY / f"tailorbird-{os.getuid()}-{name}"
    try:
        place.mkdir(mode=OWNER_FOLDER, exist_ok=True)
        ours = place.stat().st_uid == os.getuid() and not place.is_symlink() and not is_open_to_others(place)
        if ours and shutil.disk_usage(place).total >= LEAST:
            return place
    except OSError:  # no such system, no room, or somebody else's
        pass
    return private_folder(workspace / "cache" / "clear")


def folders_of_all(root: Path, name: str) -> list[Path]:
    """The folder ``name`` of each process below ``root``, this one's among them."""
    return sorted((root / "processes").glob(f"*/{name}"))


def is_in_memory(folder: Path) -> bool:
    """True for a folder whose files never come on a disk, but for swap space."""
    return folder.is_relative_to(_IN_MEMORY)


@cache
def process_folder(root: Path) -> Path:
    """A folder below ``root`` that this process alone uses, and its children read. Those of processes that have ended are removed.

    The process holds a lock on a file in it for as long as it lives: the system drops the lock, whatever ends the process. Raises OSError.
    """
    place = private_folder(root / "processes")
    for left in place.iterdir():
        if not _is_held(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = place / uuid4().hex
    private_folder(folder)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    owner = os.getpid()

    def leave() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(leave)
    return folder


@contextmanager
def held_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder until the end of the ``with`` block; those that processes of this user left when they were killed, a minute ago or
    more, are removed: their names begin with ``prefix``, too. Raises OSError."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            ours = left.lstat().st_uid == os.getuid() and left.is_dir() and not left.is_symlink()
            if ours and not _is_new(left) and not _is_held(left):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        lock = os.open(Path(made, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield private_folder(Path(made, "files"))
        finally:
            os.close(lock)


def _is_held(folder: Path) -> bool:
    """True where a living process holds the lock. A folder that is being made has no lock yet: it is left for a while."""
    with suppress(OSError):
        handle = os.open(folder / _LOCK, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False
    return folder.is_dir() and not (folder / _LOCK).exists() and _is_new(folder)


def _is_new(folder: Path) -> bool:
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime < 60
    return False


def user_cache() -> Path | None:
    """Our folder below ``XDG_CACHE_HOME``, where that is an absolute path, else below ``~/.cache``; None where the user has no home."""
    named, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")  # noqa: PTH111 - pathlib raises where there is none
    if Path(named).is_absolute():
        return Path(named, "tailorbird")
    return Path(home, ".cache", "tailorbird") if Path(home).is_absolute() else None


def can_be_made(folder: Path) -> bool:
    """True where ``folder`` is there and may be written, or may be made. One that may not even be looked at may not."""
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), None)  # noqa: PTH110 - pathlib raises there
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
