"""Whether something in a folder was written, told by the system instead of being asked for again and again.

In: a folder. Out: a file descriptor that becomes readable after a write, by any process of this machine. Must not know: what lies there.
Linux alone (inotify(7)); elsewhere there is no watch, and whoever wants to know has to look. A folder on the network may hold back what
other machines write: so nobody should rely on a watch alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

#: IN_MODIFY, IN_MOVED_TO, IN_CREATE: what a commit does to the files of a database.
_WRITES = 0x2 | 0x80 | 0x100
_MOST_BYTES = 64 * 1024


class FolderWatch:
    """A watch over the files in ``folder``, not over those in folders below it. Raises OSError where there can be none."""

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
        """Takes what was told, so that the descriptor is readable again only after a further write."""
        with suppress(BlockingIOError):
            while os.read(self.descriptor, _MOST_BYTES):
                pass

    def close(self) -> None:
        """Ends the watch."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
