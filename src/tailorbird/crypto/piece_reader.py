"""File object over an iterator of bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def reader_of(pieces: Iterable[bytes | memoryview], buffer: int, closes: IO[bytes] | None = None) -> IO[bytes]:
    """A file that reads ``pieces`` one after another, ``buffer`` bytes at a time; closing it closes ``closes``, too."""
    return cast(IO[bytes], io.BufferedReader(_Pieces(pieces, closes), buffer))


class _Pieces(io.RawIOBase):
    """Reads the pieces of an iterator one after another."""

    def __init__(self, pieces: Iterable[bytes | memoryview], closes: IO[bytes] | None) -> None:
        self._pieces = iter(pieces)
        self._piece = memoryview(b"")
        self._closes = closes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Bytes put into ``buffer``; 0 at the end."""
        while not self._piece:
            if (piece := next(self._pieces, None)) is None:
                return 0
            self._piece = memoryview(piece)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count], self._piece = self._piece[:count], self._piece[count:]
        return count

    def close(self) -> None:
        if self._closes is not None:
            self._closes.close()
        super().close()
