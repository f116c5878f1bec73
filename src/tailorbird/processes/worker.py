"""Worker process: leased steps of submitted runs, and reviews by LLM judges, for every tenant whose worker key is here.

Many workers may run, on one machine or several: a step, or a judge, is leased by one at a time. One that is killed leaves its lease to run
out; one that is asked to end (SIGINT, SIGTERM) gives its step back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Busy, LeaseLost, TailorbirdError
from tailorbird.domain.label_review import ModelReview
from tailorbird.domain.run import Run, RunState
from tailorbird.processes.scheduler import WORKER
from tailorbird.system.background_loop import Rounds, place_of
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.label_reviews.llm_judges import hold
from tailorbird.usecases.runs.step_runner import WorkedRun, plan_for, work_on

#: Seconds between two looks for work, and for which a run that could not be worked on is left alone.
POLL_SECONDS, REST_SECONDS = 1.0, 30.0
#: Waiting runs looked at at once, so that those of one tenant do not hide another's.
MOST_WAITING = 10_000


@dataclass(frozen=True)
class _Job:
    """Something that waits: what it is called, what it is about, and what the tenant's worker does with it."""

    name: str
    about: str
    tenant: str
    subject: str
    do: Callable[[Actor], object]


@dataclass
class StepWorker:
    """One worker. ``tell`` is told, in sentences, what it does."""

    deps: Dependencies
    progress: Progress
    tell: Callable[[str], None]
    once: bool = False
    _resting: dict[tuple[str, str], float] = field(default_factory=dict)
    _rounds: Rounds = field(default_factory=lambda: Rounds("worker"))

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
            for job in waiting:
                self._take_up(job)
            if not waiting and self.once:
                return
            if not waiting:
                time.sleep(max(POLL_SECONDS, self._rounds.pause))

    def _waiting(self) -> list[_Job]:
        """What to take up now. When the record cannot be read for a while, nothing is, and it is asked again."""
        try:
            with self.deps.ledger.system(write=False) as system:
                runs, reviews = system.queue.waiting(limit=MOST_WAITING), system.queue.judging(limit=MOST_WAITING)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is asked again
            self._rounds.failed(error)
            self.tell(f"the record does not answer ({_code(error)}); trying again")
            return []
        self._rounds.succeeded()
        found = [self._of_run(run) for run in runs] + [self._of_review(tenant, review) for tenant, review in reviews]
        return [job for job in found if time.monotonic() >= self._resting.get((job.name, job.subject), 0.0)]

    def _of_run(self, run: Run) -> _Job:
        def do(actor: Actor) -> object:
            if run.state is RunState.PLANNING:
                return plan_for(self.deps, actor, run, self.progress)
            return work_on(self.deps, actor, run, self.progress)

        return _Job(f"run {run.id}", f"{run.tenant}/{run.objective_name}", run.tenant, run.id, do)

    def _of_review(self, tenant: str, review: ModelReview) -> _Job:
        name = f"judge {review.model}"
        about = f"release {short(review.release)} of {tenant}"
        return _Job(name, about, tenant, review.release, lambda actor: hold(self.deps, actor, review, self.progress))

    def _take_up(self, job: _Job) -> None:
        self.tell(f"{job.name} of {job.about}")
        try:
            actor = act_as(self.deps, job.tenant, WORKER)
            permit(self.deps, actor, Action.WORK, job.subject)
            ended = job.do(actor)
            self.tell(f"{job.name} {_ending(ended)}")
        except (Busy, LeaseLost) as error:
            self.tell(f"{job.name}: {error.message}")
        except TailorbirdError as error:
            self._resting[job.name, job.subject] = time.monotonic() + REST_SECONDS
            self.tell(f"{job.name}: error[{error.error_code}]: {error.message}; {error.hint}")
        except Exception as error:  # noqa: BLE001 - a defect in one job is no matter of the others
            self._resting[job.name, job.subject] = time.monotonic() + REST_SECONDS
            self.tell(f"{job.name}: a defect: {place_of(error)}")


def _code(error: Exception) -> str:
    return error.error_code if isinstance(error, TailorbirdError) else place_of(error)


def _ending(ended: object) -> str:
    conclusion = ended.conclusion if isinstance(ended, WorkedRun) else None
    if conclusion is None or conclusion.release is not None:
        return "is finished"
    return f"ended without a release: {conclusion.reason}"


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
