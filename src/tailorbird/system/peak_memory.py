"""Peak resident set of this process since a moment."""

from __future__ import annotations

import os
import resource
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path

GIB = 2**30
_STATUS, _STATM, _CLEAR = Path("/proc/self/status"), Path("/proc/self/statm"), Path("/proc/self/clear_refs")
#: Written to ``clear_refs``, this resets the mark (proc(5)).
_RESET_MARK = "5"


_lock = threading.RLock()


class PeakMemory:
    """Counts from when it is made; several may count at once. Where the system keeps no mark that can be reset, what is looked at counts.

    The system keeps one mark a process: before one ``PeakMemory`` resets it, the others take over what it has reached.
    """

    def __init__(self) -> None:
        with _lock:
            for other in _counting:
                other._look()
            self.start = self._highest = resident_gib()
            self._reset = False
            with suppress(OSError):
                _CLEAR.write_text(_RESET_MARK, encoding="ascii")
                self._reset = True
            _counting.add(self)

    @property
    def gib(self) -> float:
        """The highest so far."""
        with _lock:
            self._look()
            return self._highest

    def _look(self) -> None:
        self._highest = max(self._highest, _marked_gib() if self._reset else resident_gib())


#: All that count now.
_counting: weakref.WeakSet[PeakMemory] = weakref.WeakSet()


def _marked_gib() -> float:
    """The system's mark."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / GIB
    return resident_gib()


def resident_gib() -> float:
    """The resident set now; the highest of all times where the system tells no other."""
    with suppress(OSError):
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest * (1 if sys.platform == "darwin" else 1024) / GIB
