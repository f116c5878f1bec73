"""Tables as such, for a terminal and in Markdown.

In: cells. Out: a rich table, a Markdown table. Must not know: what the cells say. Text is never taken for markup: ``recall[refund]`` is
shown as it is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text


def plain_table(head: Sequence[str], numbers: Collection[str] = (), widths: Mapping[str, int] | None = None) -> Table:
    """An empty table with a bold head and no lines.

    Columns named in ``numbers`` are aligned to the right and never broken; those in ``widths`` keep at least that many characters a line.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for name in head:
        justify: JustifyMethod = "right" if name in numbers else "left"
        table.add_column(Text(name), overflow="fold", justify=justify, no_wrap=name in numbers, min_width=(widths or {}).get(name))
    return table


def add_row(table: Table, cells: Iterable[str], *, dim: bool = False) -> None:
    """Adds one row, dimmed where it is only a reference."""
    table.add_row(*(Text(cell) for cell in cells), style="dim" if dim else None)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are put on one line, and bars in them are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(markdown_text(cell) for cell in line) + " |" for line in lines)


def markdown_text(text: str) -> str:
    """Free text that cannot break out of its line or cell, or open a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
