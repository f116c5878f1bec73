"""The worker process: does the leased steps of submitted runs, for every tenant whose worker key is here.

In: opened parts, who to tell. Out: a process that works until it is told to end. Must not know: what a step does, what is done beside
(``chores.py``).

Many workers may run, on one machine or several: a step is leased by one at a time. One that is killed leaves its lease to run out; one that
is asked to end (SIGINT, SIGTERM) gives its step back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tailorbird.access import Action
from tailorbird.app.chores import WORKER
from tailorbird.domain.errors import Busy, LeaseLost, TailorbirdError
from tailorbird.domain.run import Run, RunState
from tailorbird.lifecycle import Parts, Progress
from tailorbird.lifecycle.identities.people import act_as
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.running.working import plan_for, work_on

#: Seconds between two looks for work, and for which a run that could not be worked on is left alone.
POLL_SECONDS, REST_SECONDS = 1.0, 30.0
#: Waiting runs looked at at once, so that those of one tenant do not hide another's.
MOST_WAITING = 10_000


@dataclass
class Worker:
    """One worker. ``tell`` is told, in sentences, what it does."""

    parts: Parts
    progress: Progress
    tell: Callable[[str], None]
    once: bool = False
    _resting: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Works until interrupted; with ``once``, until nothing waits."""
        try:
            with _ended_by_sigterm():
                self._work()
        except KeyboardInterrupt:
            self.tell("ended; steps in hand were given back")

    def _work(self) -> None:
        while True:
            waiting = self._waiting()
            for run in waiting:
                self._take_up(run)
            if not waiting and self.once:
                return
            if not waiting:
                time.sleep(POLL_SECONDS)

    def _waiting(self) -> list[Run]:
        """Runs to take up now. When the record cannot be reached for a while, nothing is, and it is asked again."""
        try:
            with self.parts.ledger.system(write=False) as system:
                found = system.queue.waiting(limit=MOST_WAITING)
        except TailorbirdError as error:
            self.tell(f"the record does not answer ({error.error_code}); trying again")
            return []
        return [run for run in found if time.monotonic() >= self._resting.get(run.id, 0.0)]

    def _take_up(self, run: Run) -> None:
        self.tell(f"run {run.id} of {run.tenant}/{run.objective_name}")
        try:
            actor = act_as(self.parts, run.tenant, WORKER)
            permit(self.parts, actor, Action.WORK, run.id)
            if run.state is RunState.PLANNING:
                plan_for(self.parts, actor, run, self.progress)
            else:
                work_on(self.parts, actor, run, self.progress)
            self.tell(f"run {run.id} is finished")
        except (Busy, LeaseLost) as error:
            self.tell(f"run {run.id}: {error.message}")
        except TailorbirdError as error:
            self._resting[run.id] = time.monotonic() + REST_SECONDS
            self.tell(f"run {run.id}: error[{error.error_code}]: {error.message}; {error.hint}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A polite end is an interruption, as Ctrl-C is."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
