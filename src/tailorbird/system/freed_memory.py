"""Memory that nothing refers to any more, returned to the system."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def return_freed_memory() -> None:
    """Collects cycles, which models are full of, and returns what the allocator keeps of them where it can (glibc)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
