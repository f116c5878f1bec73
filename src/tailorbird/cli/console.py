"""Console that breaks lines for a terminal only: a file, a pipe or a log keeps each message and each row of a table on one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import TextType

from tailorbird.text.terminal_text import UNBROKEN, shown


class FileConsole(Console):
    """A rich console; ``COLUMNS`` sets the width of tables wherever they go."""

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters."""
        size = super().size
        return size if self._breaks else ConsoleDimensions(UNBROKEN, size.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """The same as rich's, without broken lines of text outside a terminal, and with control characters written out."""
        objects = tuple(shown(each) if isinstance(each, str) else each for each in objects)
        super().print(*objects, soft_wrap=not self.is_terminal if soft_wrap is None else soft_wrap, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The same as rich's; control characters are those of rich alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)

    def rule(self, title: TextType = "", **options: Any) -> None:
        """A heading: with a line as wide as the terminal on one, plain elsewhere."""
        if self._breaks:
            super().rule(title, **options)
        else:
            self.print(title)

    @property
    def _breaks(self) -> bool:
        return self.is_terminal or self._environ.get("COLUMNS", "").isdigit()
