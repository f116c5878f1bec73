"""Progress of long work on stderr: one living line on a terminal, a line now and then elsewhere.

In: what the story tells. Out: text on stderr. Must not know: what the work is.
"""

from __future__ import annotations

import time

from rich.console import Console

from tailorbird.domain.run import TrainingProgress
from tailorbird.lifecycle import Progress

#: Seconds between two lines when stderr is no terminal.
QUIET_SECONDS = 5.0


class Narrator:
    """Tells the progress of one command."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._last = 0.0
        self._living = False

    def progress(self) -> Progress:
        """The callbacks that tell it here."""
        return Progress(tell=self.tell, training=self.training, count=self.count)

    def tell(self, message: str) -> None:
        """One line of what happens now, with the time since the command began."""
        self._end_living()
        self._console.print(f"[{self._elapsed()}] {message}", markup=False)

    def training(self, seen: TrainingProgress) -> None:
        """Step, losses, speed, memory and time left of a training run."""
        left = seen.seconds / max(1, seen.step) * (seen.steps - seen.step)
        held_out = f" held-out {seen.held_out_loss:.3f}" if seen.held_out_loss is not None else ""
        added = f" ({seen.added} added, as it had not begun to learn)" if seen.added else ""
        self._update(
            f"step {seen.step}/{seen.steps}{added} loss {seen.loss:.3f}{held_out} {seen.tokens_per_second:.0f} tokens/s "
            f"{seen.memory_gb:.1f} GiB, {left:.0f} s left",
            final=seen.step >= seen.steps,
        )

    def count(self, done: int, total: int) -> None:
        """How many of how many items."""
        self._update(f"{done}/{total} items", final=done >= total)

    def _update(self, text: str, *, final: bool) -> None:
        now = time.monotonic()
        if self._console.is_terminal:
            self._console.print(f"\r\x1b[2K[{self._elapsed()}]   {text}", end="", markup=False, soft_wrap=True)
            self._living = True
        elif final or now - self._last >= QUIET_SECONDS:
            self._console.print(f"[{self._elapsed()}]   {text}", markup=False)
            self._last = now

    def _end_living(self) -> None:
        if self._living:
            self._console.print()
            self._living = False

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return f"{minutes:02d}:{seconds:02d}"
