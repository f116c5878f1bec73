"""Tables for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tailorbird.text.terminal_text import UNBROKEN, shown

#: Columns of a terminal that a word of a text column keeps unbroken, at most.
_WORD = 24


class FittedTable:
    """A table without lines whose first column is shown whole at every width.

    Columns that do not fit beside the others stand in a further block below, behind the first column again.
    """

    def __init__(self, head: Sequence[str], numbers: Collection[str] = (), widths: Mapping[str, int] | None = None) -> None:
        self._head = tuple(head)
        self._numbers = frozenset(place for place, name in enumerate(head) if name in numbers)
        self._widths = dict(widths or {})
        self._rows: list[tuple[tuple[str, ...], bool]] = []

    def add(self, cells: Iterable[str], *, dim: bool = False) -> None:
        """One row more, dimmed where it is only a reference."""
        self._rows.append((tuple(map(shown, cells)), dim))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if options.max_width >= UNBROKEN:
            yield self._unbroken()._block(range(len(self._head)), options.max_width)
            return
        for block, places in enumerate(self._blocks(options.max_width)):
            if block:
                yield Text()
            yield self._block(places, options.max_width)

    def _unbroken(self) -> FittedTable:
        """The same table with one line a row."""
        head = [_one_line(name) for name in self._head]
        flat = FittedTable(head, [head[place] for place in self._numbers])
        for cells, dim in self._rows:
            flat.add(map(_one_line, cells), dim=dim)
        return flat

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        least = [self._least(place) for place in range(len(self._head))]
        return Measurement(min(options.max_width, max(least)), min(options.max_width, self._whole()))

    def _blocks(self, width: int) -> list[list[int]]:
        """Places of the columns that stand together, block by block; the first column (0) is in each."""
        first = self._first(width)
        blocks, used = [[0]], first
        for place in range(1, len(self._head)):
            least = self._least(place)
            if used + 1 + least > width and len(blocks[-1]) > 1:
                blocks.append([0])
                used = first
            blocks[-1].append(place)
            used += 1 + least
        return blocks

    def _block(self, places: Sequence[int], width: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
        for place, cells in zip(places, self._shared_out(places, width), strict=True):
            justify = "right" if place in self._numbers else "left"
            table.add_column(Text(self._head[place]), overflow="fold", justify=justify, width=cells)  # type: ignore[arg-type]
        for cells_of, dim in self._rows:
            table.add_row(*(Text(cells_of[place]) for place in places), style="dim" if dim else None)
        return table

    def _shared_out(self, places: Sequence[int], width: int) -> list[int]:
        """Columns of the terminal that each column of a block takes: its least, and what is left over goes to those that could use it."""
        given = [self._first(width) if place == 0 else self._least(place) for place in places]
        left = width - sum(given) - (len(places) - 1)
        if left < 0:
            given[-1] = max(1, given[-1] + left)
        wanting = [at for at, place in enumerate(places) if given[at] < self._natural(place)]
        while left > 0 and wanting:
            for at in wanting[:left]:
                given[at] += 1
                left -= 1
            wanting = [at for at in wanting if given[at] < self._natural(places[at])]
        return given

    def _first(self, width: int) -> int:
        """What the first column takes at the least: its longest word, and no more than half of the terminal."""
        return max(1, min(self._least(0), width // 2))

    def _least(self, place: int) -> int:
        if place in self._numbers:
            return self._natural(place)
        words = max((cell_len(word) for line in self._lines(place) for word in line.split()), default=1)
        return min(self._natural(place), max(min(words, _WORD), self._widths.get(self._head[place], 0)))

    def _natural(self, place: int) -> int:
        return max(1, *(cell_len(line) for line in self._lines(place)), self._widths.get(self._head[place], 0))

    def _whole(self) -> int:
        return sum(map(self._natural, range(len(self._head)))) + len(self._head) - 1

    def _lines(self, place: int) -> Iterator[str]:
        for text in (self._head[place], *(cells[place] for cells, _ in self._rows)):
            yield from text.split("\n")


def _one_line(text: str) -> str:
    return " ".join(filter(None, map(str.strip, text.splitlines())))


def plain_table(head: Sequence[str], numbers: Collection[str] = (), widths: Mapping[str, int] | None = None) -> FittedTable:
    """An empty table with a bold head and no lines.

    Columns named in ``numbers`` are aligned to the right and not broken; those in ``widths`` keep at least that many characters a line.
    """
    return FittedTable(head, numbers, widths)


def add_row(table: FittedTable, cells: Iterable[str], *, dim: bool = False) -> None:
    """Adds one row, dimmed where it is only a reference."""
    table.add(cells, dim=dim)
