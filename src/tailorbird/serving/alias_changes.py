"""Cheap polling for alias changes: a database change counter, or the file system's own notice."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.ledger import Ledger

#: IN_MODIFY, IN_MOVED_TO, IN_CREATE: what a commit does to the files of a database.
_WRITES = 0x2 | 0x80 | 0x100
_MOST_BYTES = 64 * 1024


class FolderWatch:
    """Watch over the files in ``folder``, without subfolders. Raises OSError where the system offers none.

    A folder on the network may hold back what other machines write: nobody may rely on a watch alone.
    """

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux":
            raise OSError(f"no watch on {sys.platform}")
        system = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0 or system.inotify_add_watch(self.descriptor, os.fsencode(folder), ctypes.c_uint32(_WRITES)) < 0:
            code = ctypes.get_errno()
            self.close()
            raise OSError(code, os.strerror(code), str(folder))

    def drain(self) -> None:
        """Reads pending notices; where there are more than one reading takes, the descriptor stays readable."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, _MOST_BYTES)

    def close(self) -> None:
        """Ends the watch."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


#: Seconds at least between two questions: under traffic every row changes the pulse. Where there is none, each is a way over the network.
_ASK_EVERY, _ASK_A_SERVER_EVERY = 0.04, 0.1


class AliasChanges:
    """Polling state of one watcher of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pulse: object | None = None
        self._asked_at = float("-inf")

    def is_due(self) -> bool:
        """True when the database must be queried: its change counter moved, or it has none. Takes microseconds."""
        return self._is_due(self._ledger.pulse(), time.monotonic())

    def is_behind(self) -> bool:
        """True while a write has not been followed by a query."""
        pulse = self._ledger.pulse()
        return bool(pulse) and pulse != self._pulse

    def _is_due(self, pulse: object | None, now: float) -> bool:
        asked_lately = now - self._asked_at < (_ASK_EVERY if pulse else _ASK_A_SERVER_EVERY)
        return not asked_lately and not (pulse and pulse == self._pulse)

    async def sees_a_move(self, since: int | None) -> bool:
        """True when the number of alias moves is no longer ``since``. An unreadable ledger shows none."""
        pulse, now = self._ledger.pulse(), time.monotonic()
        if not self._is_due(pulse, now):
            return False
        # Read before the number: a commit in between changes it once more.
        self._pulse, self._asked_at = pulse, now
        try:
            return await asyncio.to_thread(self._moves) != since
        except TailorbirdError:
            return False

    def _moves(self) -> int:
        with self._ledger.system(write=False) as system:
            return system.tenants.aliases_moved()
