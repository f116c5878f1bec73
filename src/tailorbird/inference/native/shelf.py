"""Room for packed weights, side by side in the order in which a step reads them, on large pages where the system has them.

In: how many numbers will stand there. Out: pieces of it, one after another. A step reads hundreds of megabytes; on pages of four kilobytes
the processor's own prefetching ends at each of them, and finding them takes time again. Must not know: what the numbers are.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

import torch

#: Bytes of a large page. What is smaller than one is left on ordinary pages.
_LARGE = 2 * 2**20
#: Numbers between the starts of two pieces: a cache line of 64 bytes.
_LINE = 32


class Shelf:
    """Room for ``count`` bf16 numbers, in pieces whose sizes are multiples of 32."""

    def __init__(self, count: int) -> None:
        self._all = _room(count)
        self._taken = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, to the end of the last page."""
        return _nbytes(len(self._all))

    def take(self, count: int) -> torch.Tensor:
        """The next ``count`` numbers."""
        assert count % _LINE == 0, "pieces begin at cache lines"
        piece = self._all[self._taken : self._taken + count]
        assert len(piece) == count, "more was taken than was asked for"
        self._taken += count
        return piece


def _nbytes(count: int) -> int:
    """Bytes that ``count`` numbers take: whole large pages, where they fill one."""
    return count * 2 if count * 2 < _LARGE else -(-count * 2 // _LARGE) * _LARGE


def _room(count: int) -> torch.Tensor:
    if count * 2 < _LARGE:
        return torch.empty(count, dtype=torch.bfloat16)
    room = mmap.mmap(-1, _nbytes(count), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without large pages
        room.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(room, dtype=torch.bfloat16, count=count)
