"""Progress of long work on stderr: bars with the time left on a terminal, lines elsewhere, and no silence in either."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from tailorbird.domain.run import TrainingProgress
from tailorbird.reporting import human_seconds, training_pace
from tailorbird.usecases import Progress, StepBegun

#: Seconds between two lines of a count, and after which work that says nothing is told to go on, where stderr is no terminal.
QUIET_SECONDS, SILENT_SECONDS = 5.0, 8.0


@dataclass
class _Moment:
    """Where the work stands: what was told last and when; a count; the last line of a training; and where a count or a training stood when
    it had first moved, and when: what comes before (loading, warming up) says nothing of the pace."""

    what: str = ""
    since: float = 0.0
    done: int = 0
    total: int = 0
    first: tuple[int, float] | None = None
    training: TrainingProgress | None = None


class ProgressDisplay:
    """Tells the progress of one command, from entering to leaving; between them nothing is silent for ten seconds.

    ``waits``: most of the time there is nothing to do (a worker). Then only steps are told of, in lines, as a log is.
    """

    def __init__(self, console: Console, *, waits: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._waits = clock, waits
        self._started, self._lock = clock(), threading.RLock()
        self._moment, self._step_at = _Moment(since=self._started), self._started
        self._inside, self._expected = False, ""
        self._begun: StepBegun | None = None
        live = console.is_terminal and not console.is_dumb_terminal and not waits
        self._surface: _Bars | _Lines = _Bars(console, self) if live else _Lines(console, clock)
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        self._surface.open()
        threading.Thread(target=self._never_silent, name="narrator", daemon=True).start()
        return Progress(tell=self.tell, training=self.training, count=self.count, step=self.step)

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        with self._lock:
            self._surface.close()

    def step(self, begun: StepBegun | None) -> None:
        """A step begins, or, with None, has ended."""
        with self._lock:
            self._inside = begun is not None
            if begun is not None:
                self._begun, self._step_at = begun, self._clock()
                self._moment = _Moment(f"step {begun.name}", self._step_at)
                self._expected = _expected(begun)

    def tell(self, message: str) -> None:
        """One line of what happens now, with the time since the command began."""
        with self._lock:
            expected, self._expected = self._expected, ""
            self._moment = _Moment(message, self._clock())
            self._surface.say(f"[{self._elapsed()}] {message}{expected}")

    def training(self, seen: TrainingProgress) -> None:
        """Step, losses, speed, memory and time left of a training run."""
        held_out = f" held-out {seen.held_out_loss:.3f}" if seen.held_out_loss is not None else ""
        added = f" ({seen.added} added, as it had not begun to learn)" if seen.added else ""
        figures = " ".join((*training_pace(seen.tokens_per_second), f"{seen.memory_gb:.1f} GiB"))
        with self._lock:
            moment = self._moment
            if moment.training is None or moment.training.step > seen.step:
                moment.first = (seen.step, seen.seconds)
            moment.training, moment.done, moment.total = seen, seen.step, seen.steps
            self._surface.move(
                f"[{self._elapsed()}]   step {seen.step}/{seen.steps}{added} loss {seen.loss:.3f}{held_out} "
                f"{figures}{_left(self.step_left())}",
                final=seen.step >= seen.steps,
            )

    def count(self, done: int, total: int) -> None:
        """How many of how many items."""
        with self._lock:
            moment = self._moment
            if moment.total != total or moment.done > done or moment.training:
                moment.first, moment.training = None, None
            elif moment.first is None and done > moment.done:
                moment.first = (done, self._clock())
            moment.done, moment.total = done, total
            left = _left(self.step_left()) if done < total else ""
            self._surface.move(f"[{self._elapsed()}]   {done}/{total} items{left}", final=done >= total)

    def kept(self, command: str, *, elsewhere: bool = False) -> str:
        """What an interruption leaves, and how to go on: for the line that ends the command. ``elsewhere``: a server works, and goes
        on with it."""
        go_on = f"go on with: {command}"
        if elsewhere:
            ends = f"; end it with: tailorbird jobs cancel {self._begun.run}" if self._begun else ""
            return f"no longer following: the server goes on with what was submitted; follow it with: {command}{ends}"
        if self._begun is None:
            return f"interrupted before the first step, so nothing is lost; {go_on}"
        training = ", the training as of its last checkpoint" if self._moment.training else ""
        steps = f"{self._begun.done} finished step{'' if self._begun.done == 1 else 's'} of run {self._begun.run}"
        return f"interrupted at the step {self._begun.name}; kept: {steps}{training}; {go_on}"

    def step_left(self) -> float | None:
        """Seconds that what is being done takes yet: by its count, else by the plan; None where neither tells."""
        moment, now = self._moment, self._clock()
        if moment.first is not None and moment.done > moment.first[0]:
            passed = (moment.training.seconds if moment.training else now) - moment.first[1]
            return passed / (moment.done - moment.first[0]) * (moment.total - moment.done)
        planned = self._begun.outlook.step if self._begun else None
        return None if planned is None else max(0.0, planned - (now - self._step_at))

    def climb_left(self) -> float | None:
        """Seconds that the climb takes yet at most, by the plan; None where it does not tell."""
        outlook = self._begun.outlook if self._begun else None
        if outlook is None or outlook.climb is None:
            return None
        planned = outlook.step or 0.0
        return outlook.climb - planned + max(0.0, planned - (self._clock() - self._step_at))

    @property
    def moment(self) -> _Moment:
        """Where the work stands."""
        return self._moment

    def spent(self) -> float:
        """Seconds since the command began."""
        return self._clock() - self._started

    def what(self) -> str:
        """What is being done."""
        return self._moment.what or "reading what is asked for"

    def since(self) -> float:
        """Seconds since what is being done was told of."""
        return self._clock() - self._moment.since

    def _never_silent(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if (self._inside or not self._waits) and not self._ended.is_set():
                    self._surface.remind(lambda: f"[{self._elapsed()}]   at work for {human_seconds(self.since())}: {self.what()}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self.spent()), 60)
        return f"{minutes:02d}:{seconds:02d}"


class _Lines:
    """Lines, for logs and pipes: counts now and then, and a reminder of what is being done where it says nothing for long."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._counted, self._wrote = 0.0, clock()

    def open(self) -> None:
        """Nothing is to be prepared."""

    def close(self) -> None:
        """Nothing is to be cleared."""

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
        self._wrote = self._clock()

    def move(self, text: str, *, final: bool) -> None:
        if final or self._clock() - self._counted >= QUIET_SECONDS:
            self.say(text)
            self._counted = self._wrote

    def remind(self, text: Callable[[], str]) -> None:
        if self._clock() - self._wrote >= SILENT_SECONDS:
            self.say(text())


class _Bars:
    """Two bars that stay below the lines: what is being done, and the climb as far as the plan foresees it."""

    def __init__(self, console: Console, narrator: ProgressDisplay) -> None:
        self._narrator = narrator
        self._bars = bars.Progress(
            _Told(lambda task: task.fields["named"](), Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            bars.BarColumn(bar_width=14),
            _Told(lambda task: task.fields["left"](), Column(no_wrap=True, justify="right", min_width=18)),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._console = console
        self._now = self._bars.add_task("", total=None, named=self._named, left=self._step_left)
        self._climb = self._bars.add_task("", total=None, visible=False, named=lambda: "the climb", left=self._climb_left)

    def open(self) -> None:
        self._bars.start()

    def close(self) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
        self._update()

    def move(self, _text: str, *, final: bool) -> None:
        del final
        self._update()

    def remind(self, _text: Callable[[], str]) -> None:
        """The bars move by themselves; what is left of the climb is reckoned anew."""
        self._update()

    def _update(self) -> None:
        moment, left = self._narrator.moment, self._narrator.climb_left()
        self._bars.update(self._now, completed=moment.done, total=moment.total or None)
        if left is not None:
            spent = self._narrator.spent()
            self._bars.update(self._climb, visible=True, completed=spent, total=max(spent + left, 1e-9))

    def _named(self) -> str:
        moment, line = self._narrator.moment, self._narrator.moment.training
        if line is not None:
            figures = (f"loss {line.loss:.3f}", *training_pace(line.tokens_per_second), f"{line.memory_gb:.1f} GiB")
            return f"{moment.what}: {', '.join(figures)}"
        return self._narrator.what()

    def _step_left(self) -> str:
        moment, left = self._narrator.moment, self._narrator.step_left()
        counted = f"{moment.done}/{moment.total} " if moment.total else ""
        return f"{counted}{human_seconds(left)} left" if left is not None else f"{counted}since {human_seconds(self._narrator.since())}"

    def _climb_left(self) -> str:
        left = self._narrator.climb_left()
        return "" if left is None else f"at most {human_seconds(left)} left"


class _Told(bars.ProgressColumn):
    """A column of text that is asked for at each refresh."""

    def __init__(self, told: Callable[[bars.Task], str], column: Column) -> None:
        self._told = told
        super().__init__(table_column=column)

    def render(self, task: bars.Task) -> Text:
        """What is to be shown of ``task`` now."""
        return Text(self._told(task))


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {human_seconds(seconds)} left"


def _expected(begun: StepBegun) -> str:
    """What the plan foresees, for the line that names the step."""
    told = [f"{begun.done} done"] if begun.done else []
    told += [f"about {human_seconds(begun.outlook.step)}"] if begun.outlook.step else []
    told += [f"at most {human_seconds(begun.outlook.climb)} for the rest of the climb"] if begun.outlook.climb else []
    return f" ({', '.join(told)})" if told else ""
