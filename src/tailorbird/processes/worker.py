"""Worker process: leased steps of submitted runs, for every tenant whose worker key is here.

Many workers may run, on one machine or several: a step is leased by one at a time. One that is killed leaves its lease to run
out; one that is asked to end (SIGINT, SIGTERM) gives its step back.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from types import FrameType

from tailorbird import wiring
from tailorbird.auth import Action
from tailorbird.domain.errors import Busy, Forbidden, Internal, InvalidInput, LeaseLost, NotFound, TailorbirdError
from tailorbird.domain.identity import Role, Signature
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.settings import find_workspace, load_settings
from tailorbird.system.background_loop import Rounds, place_of
from tailorbird.system.process import build_name
from tailorbird.usecases import Actor, Dependencies, Progress, tenants
from tailorbird.usecases.audit_events import permit, tell_denials
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.erasure.places import follow_erasures
from tailorbird.usecases.identities import act_as, known_identity
from tailorbird.usecases.maintenance import audit
from tailorbird.usecases.monitoring.watch import watch_production
from tailorbird.usecases.releases.rollouts import watch_rollouts
from tailorbird.usecases.runs.engine import WorkedRun, perform_placed, plan_for, work_on
from tailorbird.usecases.runs.placement import StepAnswer, StepFault, StepTask

_log = logging.getLogger("tailorbird.schedules")

#: Seconds between two looks at what is due.
_LOOK_EVERY = 0.5


#: The identity that watches and works, in each tenant.
WORKER = Role.WORKER.value


class Schedule(Rounds):
    """Task that is due ``every`` so often, first at once; later where it failed again and again. ``last`` is when it was last begun, on the
    monotonic clock."""

    def __init__(self, name: str, every: timedelta, what: Callable[[], object]) -> None:
        super().__init__(name)
        self.every, self.what = every, what
        self.last = float("-inf")

    def is_due(self, now: float) -> bool:
        """True when it is to be begun; one whose interval is zero never is."""
        return bool(self.every) and now - self.last >= max(self.every.total_seconds(), self.pause)


@contextmanager
def run_schedules(schedules: Sequence[Schedule]) -> Iterator[None]:
    """Within the block, does each schedule whenever it is due, one after another in a thread: the work beside it never waits.

    One that fails, by an error of ours or by a defect, is told and done again when it is next due. Leaving waits for what is under way.
    """
    ended = Event()
    with ThreadPoolExecutor(2, thread_name_prefix="chores") as threads:
        threads.submit(_do, schedules, threads, ended)
        try:
            yield
        finally:
            ended.set()


def _do(schedules: Sequence[Schedule], threads: ThreadPoolExecutor, ended: Event) -> None:
    while not ended.wait(_LOOK_EVERY):
        for schedule in schedules:
            if schedule.is_due(time.monotonic()) and not ended.is_set():
                schedule.last = time.monotonic()
                error = threads.submit(schedule.what).exception()
                schedule.failed(error) if error else schedule.succeeded()


def _schedules(deps: Dependencies) -> list[Schedule]:
    """What gateways and workers do: they keep the log's head signed and shipped (looking more often than checkpoints are made, so that a
    place that was away is not late), and remove this machine's copies of what was erased, wherever that was done."""
    return [
        Schedule("checkpoint", deps.upkeep.checkpoint_every / 4, partial(audit.keep_signed, deps)),
        Schedule("erasures", timedelta(minutes=10), partial(follow_erasures, deps)),
    ]


def gateway_schedules(deps: Dependencies) -> list[Schedule]:
    """With the deletion of expired content and counts, the guards of rollouts, and the record of denials that were only counted."""
    return [
        *_schedules(deps),
        Schedule("purge", timedelta(minutes=10), partial(tenants.purge, deps)),
        Schedule("rollouts", timedelta(seconds=1), partial(watch_rollouts, deps)),
        Schedule("denials", timedelta(seconds=30), partial(tell_denials, deps)),
    ]


def worker_schedules(deps: Dependencies) -> list[Schedule]:
    """With the check of the production of every tenant whose worker key is here."""
    return [*_schedules(deps), Schedule("watch", deps.upkeep.watch_every, partial(check_production, deps))]


def check_production(deps: Dependencies) -> None:
    """Checks the production of every tenant whose worker key is here, unless another process has done so within this interval."""

    def check(tenant: str) -> None:
        # What a rollout's guards report is no look.
        with deps.ledger.work(tenant, write=False) as work:
            newest = [signal for signal in work.signals.latest(50) if not signal.name.startswith("rollout.")]
        if not newest or newest[0].at <= deps.clock.now() - 0.9 * deps.upkeep.watch_every:
            _watch(deps, tenant)

    for_each_tenant(deps, check).all()


def _watch(deps: Dependencies, tenant: str) -> None:
    try:
        actor = act_as(deps, tenant, WORKER)
        permit(deps, actor, Action.WATCH)
    except (NotFound, Forbidden):
        return
    found = watch_production(deps, actor)
    if found.told or found.undelivered:
        _log.warning("watch: %d readings are news, %d receivers were not reached", len(found.told), found.undelivered)


#: Seconds between two looks for work, and for which a run that could not be worked on is left alone.
POLL_SECONDS, REST_SECONDS = 1.0, 30.0
#: Waiting runs looked at at once, so that those of one tenant do not hide another's.
MOST_WAITING = 10_000


@dataclass
class StepWorker:
    """One worker. ``tell`` is told, in sentences, what it does."""

    deps: Dependencies
    progress: Progress
    tell: Callable[[str], None]
    once: bool = False
    _resting: dict[str, float] = field(default_factory=dict)
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
            for run in waiting:
                name = f"run {run.id}"
                self.tell(f"{name} of {run.tenant}/{run.objective_name}")
                try:
                    actor = act_as(self.deps, run.tenant, WORKER)
                    permit(self.deps, actor, Action.WORK, run.id)
                    if run.state is RunState.PLANNING:
                        plan_for(self.deps, actor, run, self.progress)
                        self.tell(f"{name} is planned")
                    else:
                        self.tell(f"{name} {_ending(work_on(self.deps, actor, run, self.progress))}")
                except (Busy, LeaseLost) as error:
                    self.tell(f"{name}: {error.message}")
                except TailorbirdError as error:
                    self._resting[run.id] = time.monotonic() + REST_SECONDS
                    self.tell(f"{name}: error[{error.error_code}]: {error.message}; {error.hint}")
                except Exception as error:  # noqa: BLE001 - a defect in one run is no matter of the others
                    self._resting[run.id] = time.monotonic() + REST_SECONDS
                    self.tell(f"{name}: a defect: {place_of(error)}")
            if not waiting and self.once:
                return
            if not waiting:
                time.sleep(max(POLL_SECONDS, self._rounds.pause))

    def _waiting(self) -> list[Run]:
        """What to take up now. When the record cannot be read for a while, nothing is, and it is asked again."""
        try:
            with self.deps.ledger.system(write=False) as system:
                runs = system.queue.waiting(limit=MOST_WAITING)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is asked again
            self._rounds.failed(error)
            self.tell(f"the record does not answer ({_code(error)}); trying again")
            return []
        self._rounds.succeeded()
        return [run for run in runs if time.monotonic() >= self._resting.get(run.id, 0.0)]


def _code(error: Exception) -> str:
    return error.error_code if isinstance(error, TailorbirdError) else place_of(error)


def _ending(ended: WorkedRun) -> str:
    if ended.conclusion is None or ended.conclusion.release is not None:
        return "is finished"
    return f"ended without a release: {ended.conclusion.reason}"


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


def perform_step(task: str) -> str:
    """Does the step that ``task`` names (the JSON of a StepTask), goes on while steps take no more than is booked, and answers with the
    JSON of a StepAnswer.

    Nothing is raised but interruptions: what a cluster keeps and shows of an error could hold a row's text.
    """
    fault: TailorbirdError | None = None
    try:
        _perform(StepTask.model_validate_json(task))
    except TailorbirdError as error:
        fault = error
    except Exception as error:  # noqa: BLE001 - see above
        hint = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version"
        fault = Internal(f"it broke off with {type(error).__name__}", hint)
    return StepAnswer(fault=StepFault.of(fault) if fault else None).model_dump_json()


def _perform(task: StepTask) -> None:
    _compute_with(task.need.cores)
    # A node whose build or settings would lead to other results refuses the step.
    if task.version != build_name():
        raise InvalidInput(
            f"this node has tailorbird {build_name()}, and the run was started by {task.version}",
            "install the same build on every node: tailorbird --version tells it",
            code="node_differs",
        )
    try:
        settings = load_settings(find_workspace(Path(task.workspace)))
    except NotFound as error:
        hint = "every node needs the same settings.yaml at the same path: share the folder, or copy the file (docs/howto/ray.md)"
        raise NotFound(f"this node has no workspace at {task.workspace}", hint, code="workspace_missing") from error
    if settings.results_digest != task.settings:
        raise InvalidInput(
            "the settings of this node lead to other results than those of the process that started the run",
            "compare settings.yaml and the variables TAILORBIRD_… of both: engine, training, prices",
            code="node_differs",
        )
    deps = wiring.open_dependencies(settings, migrate=False)
    try:
        perform_placed(replace(deps, compute=lambda: None), _keyless(deps, task), task, Progress())
    finally:
        deps.ledger.close()


def _compute_with(threads: int) -> None:
    """Has products computed by ``threads``. It must be said before the libraries are loaded that compute."""
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _keyless(deps: Dependencies, task: StepTask) -> Actor:
    """Whoever started the run, as the record knows them, without their key: a node signs nothing. Raises NotFound, Forbidden."""
    identity = known_identity(deps, task.tenant, task.actor)

    def refuse(purpose: str, _digest: Digest) -> Signature:
        raise Forbidden(f"a node does not sign ({purpose})", "the process that started the run does")

    return Actor(identity, refuse)
