"""Stretches of a data file that are read apart from each other: cut where lines end, outside of quotes, without being parsed.

A file with a quote inside of a cell that has none around it is cut in the wrong places. Then a stretch ends within a record, which its
reader refuses, and the file is read as one: where each stretch begins rightly and ends with a record, the next one begins rightly, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird.data.readers.appended_reader import GROWING, PLAIN, line_ends
from tailorbird.data.readers.data_file import DataFile

#: Bytes of a stretch: some 16,000 short rows, half a second of curation.
STRETCH = 1 << 20
#: A file is cut into no more stretches than about so many.
_MOST = 256
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes ``start`` to ``stop`` of a file (None: its end), which follow ``lines`` lines."""

    start: int = 0
    stop: int | None = None
    lines: int = 0

    @property
    def is_whole(self) -> bool:
        """True for all of a file."""
        return self.start == 0 and self.stop is None


#: All of a file.
WHOLE = Stretch()


def stretches_of(file: DataFile, size: int = STRETCH) -> list[Stretch]:
    """Stretches of about ``size`` bytes, or more where they would be many; all of the file where its format, or its length, is not for
    cutting."""
    if file.kind not in GROWING or file.encoding.lower() not in PLAIN:
        return [WHOLE]
    length = file.path.stat().st_size
    cuts = list(_cuts(file, max(size, length // _MOST)))
    if len(cuts) < 2:
        return [WHOLE]
    stops = [start for start, _ in cuts[1:]]
    return [Stretch(start, stop, lines) for (start, lines), stop in zip(cuts, [*stops, length], strict=True)]


def _cuts(file: DataFile, size: int) -> Iterator[tuple[int, int]]:
    """Where stretches begin: the byte, and how many lines are before it."""
    quoted = file.kind != ".jsonl"
    start = lines = quotes = 0
    last = b""
    with file.path.open("rb") as stream:
        while block := stream.read(size):
            yield start, lines
            while block:
                start += len(block)
                lines += line_ends(last + block, file.kind) - line_ends(last, file.kind)
                quotes += block.count(b'"') if quoted else 0
                last = block[-1:]
                whole = last == b"\n" and quotes % 2 == 0
                block = b"" if whole else stream.readline(_BLOCK)
