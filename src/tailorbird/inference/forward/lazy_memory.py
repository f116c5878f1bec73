"""Zeroed memory whose pages are taken when they are first written: ``torch.zeros`` writes them all at once."""

from __future__ import annotations

import math
import mmap
from contextlib import suppress

import torch

from tailorbird.domain.errors import Unavailable

#: From this many bytes on the system is asked, for whole large pages; below, an allocation costs less.
LARGE = 2 * 2**20


def lazy_zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Zeros of ``shape`` in the processor's memory, on large pages where the system has them. Raises Unavailable where it has no room."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < LARGE:
        return torch.zeros(shape, dtype=dtype)
    try:
        room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise Unavailable(
            f"the system has no {size / 2**20:,.0f} MiB for keys and values, or for weights",
            "free memory, or lower the settings engine_kv_mb and engine_memory_mb",
            code="memory",
        ) from error
    large_pages = getattr(mmap, "MADV_HUGEPAGE", None)
    if large_pages is not None:
        with suppress(OSError):  # a kernel without them
            room.madvise(large_pages)
    return torch.frombuffer(room, dtype=dtype, count=count).view(shape)
