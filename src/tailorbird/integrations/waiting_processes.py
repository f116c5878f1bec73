"""Processes of one node that wait for a next task, and their end before another task begins there: nothing is booked for what they hold.

Each has a file in a folder of its node, and locks bytes of it: while it lives, while it does a task, and while its answer is on the way. A
lock goes with its process, whatever ends it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from tailorbird.system.files import OWNER_FILE, OWNER_FOLDER, is_open_to_others

#: The bytes of a process's file.
_LIVES, _WORKS, _ANSWERS = range(3)
#: Seconds in which an answer gets out; between two looks; that a process is given to clear away what is to be cleared at its end.
_OUT, _LOOK, _GRACE = 0.5, 0.02, 5.0
_TRIES = 10


def node_folder(node: str) -> Path | None:
    """The folder of the node called ``node``, for processes of this user; None where somebody else has made it."""
    folder = Path(tempfile.gettempdir(), f"tailorbird-{os.getuid()}", node)
    for place in (folder.parent, folder):
        with suppress(FileExistsError):
            place.mkdir(mode=OWNER_FOLDER)
        if place.is_symlink() or place.stat().st_uid != os.getuid() or is_open_to_others(place):
            return None
    return folder


class WaitingProcess:
    """This process, as others of its node see it. It works from when it is made. Raises OSError where the folder's disk has no locks."""

    def __init__(self, folder: Path) -> None:
        self._timer: threading.Timer | None = None
        while True:  # whoever looks meanwhile takes a file that nobody holds away
            self.file = folder / f"{os.getpid()}-{uuid4().hex}"
            self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT, OWNER_FILE)
            if _lock(self._handle, _LIVES) and _lock(self._handle, _WORKS) and self.file.exists():
                return
            os.close(self._handle)

    def begin(self) -> bool:
        """A task begins; False where somebody is ending this process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        for _ in range(_TRIES):  # who only looks lets go at once
            if _lock(self._handle, _WORKS):
                _unlock(self._handle, _ANSWERS)
                return True
            time.sleep(_LOOK)
        return False

    def wait(self) -> None:
        """The task is done; once its answer is out, whoever begins another one on this node ends this process."""
        _lock(self._handle, _ANSWERS)
        _unlock(self._handle, _WORKS)
        self._timer = threading.Timer(_OUT, _unlock, (self._handle, _ANSWERS))
        self._timer.daemon = True
        self._timer.start()


def end_waiting(folder: Path, own: WaitingProcess | None = None) -> int:
    """Ends the processes of ``folder`` that wait, and returns when they are gone; how many they were. Who works, and ``own``, stays."""
    ended = 0
    with _alone(folder):
        for file in folder.iterdir():
            if own is None or file != own.file:
                ended += _end(file)
    return ended


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Who comes second waits, too, until those that wait are gone."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _end(file: Path) -> bool:
    try:
        handle = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if _lock(handle, _LIVES):
            file.unlink(missing_ok=True)
            return False
        if not _waits(handle):
            return False
        pid = int(file.name.partition("-")[0])
        for order, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
            with suppress(ProcessLookupError):
                os.kill(pid, order)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if _lock(handle, _LIVES):
                    file.unlink(missing_ok=True)
                    return True
                time.sleep(_LOOK)
        return False
    finally:
        os.close(handle)


def _waits(handle: int) -> bool:
    """Whether the process waits, which it is kept from leaving then. While its answer is on the way it may be given its next task."""
    while _lock(handle, _WORKS):
        if _lock(handle, _ANSWERS):
            return True
        _unlock(handle, _WORKS)
        time.sleep(_LOOK)
    return False


def _lock(handle: int, byte: int) -> bool:
    """False where another process has it. Raises OSError where nobody can."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # systems tell the one or the other
        return False
    return True


def _unlock(handle: int, byte: int) -> None:
    fcntl.lockf(handle, fcntl.LOCK_UN, 1, byte)
