"""Folder for what one process has decrypted: in memory where the system offers that, gone when the process ends, however it ends."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from tailorbird.system.files import OWNER_FOLDER, is_open_to_others, private_folder

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
