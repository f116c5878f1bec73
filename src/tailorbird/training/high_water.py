"""The highest that the resident set of this process has been since a moment.

In: the process. Out: GiB. Must not know: what takes the memory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from tailorbird.training.cost import GIB

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: Written to ``clear_refs``, this resets the mark (proc(5)).
_RESET_MARK = "5"


class HighWater:
    """Counts from when it is made. Where the system keeps no mark, what is looked at counts: ``gib`` is then the present."""

    def __init__(self) -> None:
        self.start = resident_gib()
        with suppress(OSError):
            _CLEAR.write_text(_RESET_MARK, encoding="ascii")

    @property
    def gib(self) -> float:
        """The highest so far."""
        with suppress(OSError):
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return float(line.split()[1]) * 1024 / GIB
        return resident_gib()


def resident_gib() -> float:
    """The resident set now."""
    return float(psutil.Process(os.getpid()).memory_info().rss) / GIB
