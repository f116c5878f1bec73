"""Memory that nothing refers to any more, returned to the system."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

from tailorbird.system.peak_memory import resident_gib

#: How much more than before a process may hold, in GiB, before a return is worth it.
_GROWTH = 0.1


class _LastReturn:
    """What this process held after the last return, in GiB; less where it holds less now."""

    gib = 0.0


def return_freed_memory() -> None:
    """Collects cycles, which models are full of, and returns what the allocator keeps of them where it can (glibc)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_growth(since: float) -> None:
    """The same where this process holds more than it did, at ``since`` GiB: walking all objects of a large one takes most of a second."""
    if resident_gib() > since + _GROWTH:
        return_freed_memory()


def return_grown_memory() -> None:
    """The same where the process has grown since the last time."""
    _LastReturn.gib = min(_LastReturn.gib, resident_gib())
    if resident_gib() > _LastReturn.gib + _GROWTH:
        return_freed_memory()
        _LastReturn.gib = resident_gib()
