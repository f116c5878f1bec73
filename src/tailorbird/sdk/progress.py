"""Progress of a call as sentences for a callback, or as one updating line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tailorbird.domain.run import TrainingProgress
from tailorbird.reporting import training_pace
from tailorbird.usecases import Progress

#: Who hears of progress: nobody, one line on stderr (True), a callback for sentences, or callbacks for the typed events.
ProgressOption = bool | Callable[[str], object] | Progress | None

#: Characters of the line on stderr.
_WIDTH = 100


@contextmanager
def reported(wanted: ProgressOption) -> Iterator[Progress]:
    """Callbacks for the use cases while the body works."""
    if isinstance(wanted, Progress):
        yield wanted
    elif callable(wanted):
        yield _sentences(wanted)
    elif wanted:
        line = _StatusLine(sys.stderr)
        try:
            yield _sentences(line.show)
        finally:
            line.end()
    else:
        yield Progress()


def _sentences(hear: Callable[[str], object]) -> Progress:
    def tell(text: str) -> None:
        hear(text)

    def count(done: int, total: int) -> None:
        hear(f"{done}/{total} items")

    def training(seen: TrainingProgress) -> None:
        figures = (f"training step {seen.step}/{seen.steps}", f"loss {seen.loss:.3f}", *training_pace(seen.tokens_per_second))
        hear(", ".join(figures))

    return Progress(tell=tell, count=count, training=training)


class _StatusLine:
    """One line that each text replaces."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""

    def show(self, text: str) -> None:
        line = "".join(letter if letter.isprintable() else " " for letter in text)[:_WIDTH]
        self._out.write(f"\r{line.ljust(len(self._shown))}")
        self._out.flush()
        self._shown = line

    def end(self) -> None:
        if self._shown:
            self._out.write("\n")
            self._out.flush()
