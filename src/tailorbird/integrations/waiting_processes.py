"""Processes of one node that wait for a next task, and their end before another task begins there: nothing is booked for what they hold.

Each has a file in a folder of its node, and locks bytes of it: while it lives, while it does a task, while its answer is on the way, and
while it ends by itself. A lock goes with its process, whatever ends it.
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
_LIVES, _WORKS, _ANSWERS, _ENDS = range(4)
#: Seconds in which an answer gets out; between two looks; that a process is given to clear away what is to be cleared at its end.
_OUT, _LOOK, _GRACE = 0.5, 0.02, 5.0


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
            # In this order: who lives and does not work is ended.
            if _lock(self._handle, _WORKS) and _lock(self._handle, _LIVES) and self.file.exists():
                return
            os.close(self._handle)

    def begin(self) -> bool:
        """A task begins; False where somebody is ending this process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if not _lock_soon(self._handle, _WORKS):
            return False
        _unlock(self._handle, _ANSWERS)
        _unlock(self._handle, _ENDS)
        return True

    def wait(self) -> None:
        """The task is done; once its answer is out, whoever begins another one on this node ends this process."""
        _lock(self._handle, _ANSWERS)
        _unlock(self._handle, _WORKS)
        self._timer = threading.Timer(_OUT, _unlock, (self._handle, _ANSWERS))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> bool:
        """This process ends by itself: whoever begins another task on this node waits until it is gone, and sends it no signal. False where
        somebody is ending it."""
        if not _lock_soon(self._handle, _ENDS):
            return False
        if not _lock(self._handle, _WORKS):  # in this order: who finds it locked by this process finds the other one locked, too
            _unlock(self._handle, _ENDS)
            return False
        return True


def end_waiting(folder: Path, own: WaitingProcess | None = None) -> int:
    """Ends the processes of ``folder`` that wait, and returns when they, and those that end by themselves, are gone; how many they were.
    Who works, and ``own``, stays."""
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
        gone = _lock(handle, _LIVES)
        ended = not gone and _is_ended(handle, int(file.name.partition("-")[0]))
        if gone or ended:
            file.unlink(missing_ok=True)
        return ended
    finally:
        os.close(handle)


def _is_ended(handle: int, pid: int) -> bool:
    """Whether a process that lived is gone now: it waited, or was ending by itself, which no signal disturbs unless it takes too long."""
    if _waits(handle):
        _send(pid, signal.SIGTERM)
        if _lock_soon(handle, _LIVES):
            return True
    else:
        until = time.monotonic() + _OUT + _GRACE
        while _ends(handle) and time.monotonic() < until:
            time.sleep(_LOOK)
        if _lock(handle, _LIVES):
            return True
        if not _ends(handle):  # it works
            return False
    _send(pid, signal.SIGKILL)
    return _lock_soon(handle, _LIVES)


def _send(pid: int, order: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, order)


def _waits(handle: int) -> bool:
    """Whether the process waits, which it is kept from leaving then. While its answer is on the way it may be given its next task."""
    while _lock(handle, _WORKS):
        if _lock(handle, _ANSWERS):
            return True
        _unlock(handle, _WORKS)
        time.sleep(_LOOK)
    return False


def _ends(handle: int) -> bool:
    if not _lock(handle, _ENDS):
        return True
    _unlock(handle, _ENDS)
    return False


def _lock_soon(handle: int, byte: int) -> bool:
    """Who only looks lets go at once; but may be stopped in between."""
    until = time.monotonic() + _GRACE
    while not _lock(handle, byte):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)
    return True


def _lock(handle: int, byte: int) -> bool:
    """False where another process has it. Raises OSError where nobody can."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # systems tell the one or the other
        return False
    return True


def _unlock(handle: int, byte: int) -> None:
    fcntl.lockf(handle, fcntl.LOCK_UN, 1, byte)
