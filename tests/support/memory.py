"""How much memory a piece of work takes at its height, above what the process held before.

The system's count of the highest since the process began is of no use here: earlier tests, or the process that started this one, may
have stood higher than the work to be judged ever comes.
"""

from __future__ import annotations

from tailorbird.system.machine import GIB, PeakMemory


class Growth:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._peak = PeakMemory()

    @property
    def bytes(self) -> int:
        """The highest so far, above the start."""
        return int((self._peak.gib - self._peak.start) * GIB)
