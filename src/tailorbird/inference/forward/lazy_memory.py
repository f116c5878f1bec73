"""Zeroed memory whose pages are taken when they are first written: ``torch.zeros`` writes them all at once."""

from __future__ import annotations

import math
import mmap
from contextlib import suppress

import torch

#: From this many bytes on the system is asked; below, an allocation costs less.
_LARGE = 2 * 2**20


def lazy_zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Zeros of ``shape`` in the processor's memory, on large pages where the system has them."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < _LARGE:
        return torch.zeros(shape, dtype=dtype)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without large pages
        room.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(room, dtype=dtype, count=count).view(shape)
