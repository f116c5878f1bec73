"""Progress of long work on a console: lines, and on a terminal below them one line of what is being done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tailorbird.domain.run import TrainingProgress
from tailorbird.reporting.tables import human_seconds, training_pace
from tailorbird.usecases import Progress, StepBegun

#: Seconds between two lines of a count, and after which silent work is said to go on, where the console is no terminal.
QUIET_SECONDS, SILENT_SECONDS = 5.0, 8.0


class ProgressDisplay:
    """Shows the progress of one command, from entering to leaving. No console is silent for ten seconds meanwhile, except with ``waits``:
    most of the time a worker has nothing to do, and then only its steps are shown, in lines, as a log."""

    def __init__(self, console: Console, *, waits: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._waits, self._clock, self._lock = console, waits, clock, threading.RLock()
        self._started = self._since = self._step_at = self._wrote = clock()
        self._counted, self._what, self._expected, self._count = 0.0, "reading the input", "", (0, 0)
        #: Where a count or a training stood when it had first moved, and when: what comes before (loading) says nothing of the pace.
        self._first: tuple[int, float] | None = None
        self._training: TrainingProgress | None = None
        self._begun: StepBegun | None = None
        self._working, self._ended = not waits, threading.Event()
        self._line = Live(get_renderable=self._summary, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._is_live = console.is_terminal and not console.is_dumb_terminal and not waits

    def __enter__(self) -> Progress:
        if self._is_live:
            self._line.start()
        else:
            threading.Thread(target=self._never_silent, name="progress", daemon=True).start()
        return Progress(tell=self.tell, training=self.training, count=self.count, step=self.step)

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        if self._is_live:
            self._line.stop()

    def step(self, begun: StepBegun | None) -> None:
        """A step begins, or, with None, has ended."""
        with self._lock:
            self._working = begun is not None or not self._waits
            if begun is None:
                return
            self._begun, self._step_at = begun, self._clock()
            self._begin(f"step {begun.name}")
            outlook = begun.outlook
            expected = [f"{begun.done} done"] if begun.done else []
            expected += [f"about {human_seconds(outlook.step)}"] if outlook.step else []
            expected += [f"at most {human_seconds(outlook.climb)} for the rest of the climb"] if outlook.climb else []
            self._expected = f" ({', '.join(expected)})" if expected else ""

    def tell(self, message: str) -> None:
        """One line of what happens now, with the time since the command began."""
        with self._lock:
            self._begin(message)
            self._say(message + self._expected)
            self._expected = ""

    def training(self, seen: TrainingProgress) -> None:
        """Step, losses, speed, memory and time left of a training run."""
        with self._lock:
            if self._training is None or self._training.step > seen.step:
                self._first = (seen.step, seen.seconds)
            self._training, self._count = seen, (seen.step, seen.steps)
            held_out = f" held-out {seen.held_out_loss:.3f}" if seen.held_out_loss is not None else ""
            added = f" ({seen.added} added, as it had not begun to learn)" if seen.added else ""
            figures = " ".join((*training_pace(seen.tokens_per_second), f"{seen.memory_gb:.1f} GiB"))
            self._move(f"  step {seen.step}/{seen.steps}{added} loss {seen.loss:.3f}{held_out} {figures}", final=seen.step >= seen.steps)

    def count(self, done: int, total: int) -> None:
        """How many of how many items."""
        with self._lock:
            before, known = self._count
            if known != total or before > done or self._training:
                self._first, self._training = None, None
            elif self._first is None and done > before:
                self._first = (done, self._clock())
            self._count = (done, total)
            self._move(f"  {done}/{total} items", final=done >= total)

    def kept(self, command: str, *, elsewhere: bool = False) -> str:
        """What an interruption leaves, and how to go on. ``elsewhere``: a server works, and goes on with it."""
        begun = self._begun
        if elsewhere:
            ends = f"; end it with: tailorbird runs cancel {begun.run}" if begun else ""
            return f"no longer following: the server goes on with what was submitted; follow it with: {command}{ends}"
        if begun is None:
            return f"interrupted before the first step, so nothing is lost; go on with: {command}"
        training = ", the training as of its last checkpoint" if self._training else ""
        steps = f"{begun.done} finished step{'' if begun.done == 1 else 's'} of run {begun.run}"
        return f"interrupted at the step {begun.name}; kept: {steps}{training}; go on with: {command}"

    def step_left(self) -> float | None:
        """Seconds that what is being done still takes: by its count, else by the plan; None where neither says."""
        done, total = self._count
        if self._first is not None and done > self._first[0]:
            passed = (self._training.seconds if self._training else self._clock()) - self._first[1]
            return passed / (done - self._first[0]) * (total - done)
        planned = self._begun.outlook.step if self._begun else None
        return None if planned is None else max(0.0, planned - (self._clock() - self._step_at))

    def _begin(self, what: str) -> None:
        self._what, self._since, self._count, self._first, self._training = what, self._clock(), (0, 0), None, None

    def _say(self, text: str) -> None:
        minutes, seconds = divmod(int(self._clock() - self._started), 60)
        self._console.print(f"[{minutes:02d}:{seconds:02d}] {text}", soft_wrap=True)
        self._wrote = self._clock()

    def _move(self, text: str, *, final: bool) -> None:
        """A line now and then; on a terminal the line below moves instead."""
        if not self._is_live and (final or self._clock() - self._counted >= QUIET_SECONDS):
            left = self.step_left()
            self._say(text if left is None or final else f"{text}, {human_seconds(left)} left")
            self._counted = self._wrote

    def _never_silent(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if self._working and not self._ended.is_set() and self._clock() - self._wrote >= SILENT_SECONDS:
                    self._say(f"  at work for {human_seconds(self._clock() - self._since)}: {self._what}")

    def _summary(self) -> Text:
        """What is being done, how far it is, and what is left of it."""
        (done, total), left = self._count, self.step_left()
        parts = [f"{done}/{total}"] if total else []
        parts.append(f"{human_seconds(left)} left" if left is not None else f"since {human_seconds(self._clock() - self._since)}")
        parts += [f"loss {self._training.loss:.3f}"] if self._training else []
        return Text(f"{', '.join(parts)}: {self._what}", no_wrap=True, overflow="ellipsis")
