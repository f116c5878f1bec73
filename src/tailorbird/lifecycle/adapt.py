"""The main verb: from an objective to a gated release, step by leased step.

In: an objective file and an actor. Out: a run, done or resumable. Must not know: how any step works. ``submit``
writes the run; ``work_on`` does its steps in this process, one transaction each, so a kill at any moment loses at most the step in hand.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tailorbird import __version__, data
from tailorbird.access import Action
from tailorbird.domain.errors import Busy, Forbidden, LeaseLost, TailorbirdError
from tailorbird.domain.ladder import Conclusion
from tailorbird.domain.run import Run, RunState, Step, StepState
from tailorbird.foundations.canonical import digest_of
from tailorbird.lifecycle import climb, conclude, prepare, story
from tailorbird.lifecycle.journal import Facts, permit, record
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.stage import Outcome, Stage
from tailorbird.objective import ObjectiveFile, read_objective

#: How long a step's lease lasts without a heartbeat, and how often one is sent.
LEASE = timedelta(seconds=20)
HEARTBEAT_SECONDS = 4.0


@dataclass(frozen=True)
class Adaptation:
    """A run and how it stands. ``resumed`` counts the steps that were already done when this process took it up."""

    run: Run
    steps: tuple[Step, ...]
    conclusion: Conclusion | None
    resumed: int


def adapt(parts: Parts, actor: Actor, path: Path, progress: Progress) -> Adaptation:
    """Climbs for the objective at ``path``: submits the run (or finds the one that exists) and works on it to its end.

    Raises ObjectiveInvalid, DataInvalid, Forbidden, Busy (another process works on this run), and what a step raises.
    """
    permit(parts, actor, Action.ADAPT, str(path.name))
    file = read_objective(path)
    run = submit(parts, actor, file)
    return work_on(parts, actor, run, file, progress)


def submit(parts: Parts, actor: Actor, file: ObjectiveFile) -> Run:
    """Writes the run for this objective and the present bytes of its data files; the same inputs give the run that exists."""
    objective = file.objective
    if objective.tenant != actor.tenant:
        raise Forbidden(
            f"the objective belongs to tenant {objective.tenant}, and {actor.name} to {actor.tenant}",
            f"set tenant: {actor.tenant}, or act as an identity of {objective.tenant} with --tenant {objective.tenant}",
            code="other_tenant",
        )
    files = data.fingerprint_sources(objective, Path(file.folder))
    fingerprint = digest_of({"objective": digest_of(objective), "files": dict(files), "version": __version__})
    run = Run(
        id=fingerprint.removeprefix("sha256:")[:12],
        tenant=objective.tenant,
        objective_name=objective.name,
        objective=digest_of(objective),
        fingerprint=fingerprint,
        folder=file.folder,
        created_by=actor.name,
        created_at=parts.clock.now(),
    )
    with parts.ledger.work(objective.tenant) as work:
        work.records.put(objective)
        known = work.runs.add(run)
        if known == run:
            record(work, "run.submitted", actor.name, run.id, run.created_at, {"objective": objective.name})
        else:
            work.steps.retry(known.id)
            work.runs.set_state(known.id, RunState.ACTIVE if known.state is RunState.FAILED else known.state)
    return known


def plan(parts: Parts, actor: Actor, path: Path, progress: Progress) -> Stage:
    """Goes as far as the plan, and no further: what ``adapt`` would do, and why, before anything is trained.

    The run it leaves is the one that ``adapt`` takes up. Raises as ``adapt`` does.
    """
    permit(parts, actor, Action.PLAN, str(path.name))
    file = read_objective(path)
    run = submit(parts, actor, file)
    while story.PLAN not in (stage := _stage(parts, actor, run, file, progress)).done:
        _advance(stage)
    return stage


def work_on(parts: Parts, actor: Actor, run: Run, file: ObjectiveFile, progress: Progress) -> Adaptation:
    """Does the run's steps until none is left. Raises Busy when another process holds a step."""
    resumed = len(_stage(parts, actor, run, file, progress).done)
    while (stage := _stage(parts, actor, run, file, progress)).next_step() is not None:
        _advance(stage)
    return _ended(stage, resumed)


def _advance(stage: Stage) -> None:
    """Takes the next step and does it; returns having done nothing while a dead process's lease runs out."""
    name = stage.next_step()
    assert name is not None
    step = _take(stage.parts, stage.run, name, stage.progress)
    if step is not None:
        _perform(stage, step)


def _stage(parts: Parts, actor: Actor, run: Run, file: ObjectiveFile, progress: Progress) -> Stage:
    with parts.ledger.work(run.tenant, write=False) as work:
        steps = work.steps.of(run.id)
    return Stage(parts=parts, actor=actor, run=run, file=file, steps=steps, progress=progress)


def _ended(stage: Stage, resumed: int) -> Adaptation:
    with stage.parts.ledger.work(stage.run.tenant) as work:
        work.runs.set_state(stage.run.id, RunState.DONE)
    return Adaptation(stage.run, stage.steps, stage.result(Conclusion, story.CONCLUDE), resumed)


def _take(parts: Parts, run: Run, name: str, progress: Progress) -> Step | None:
    """Leases the next step. A lease of a process that is gone is waited for; a living holder raises Busy."""
    with parts.ledger.work(run.tenant) as work:
        work.steps.enqueue(run.id, name)
        step = work.steps.lease(run.id, owner(os.getpid()), LEASE)
        held = next((s for s in work.steps.of(run.id) if s.state is StepState.LEASED), None)
    if step is not None:
        return step
    if held is not None and held.owner is not None and not _gone(held.owner):
        raise Busy(
            f"another process ({held.owner}) works on this run, at step {held.name}",
            "wait for it, or end it: the run goes on where it stopped",
            code="run_busy",
        )
    progress.tell("the process that held this step is gone; waiting for its lease to end")
    time.sleep(1.0)
    return None


def _perform(stage: Stage, step: Step) -> None:
    """Does one step under a heartbeat, and commits value, events and completion in one transaction."""
    started = time.monotonic()
    stage.progress.tell(f"step {step.name}")
    try:
        with _heartbeat(stage.parts, step):
            outcome = _handler(stage, step.name)()
    except (TailorbirdError, KeyboardInterrupt) as error:
        _give_up(stage, step, error)
        raise
    _commit(stage, step, outcome, time.monotonic() - started)


def _handler(stage: Stage, name: str) -> Callable[[], Outcome]:
    table: dict[str, Callable[[], Outcome]] = {
        story.SNAPSHOT: lambda: prepare.take_snapshot(stage),
        story.PLAN: lambda: prepare.make_plan(stage),
        story.FLOOR: lambda: climb.measure_floor(stage),
        story.CHOOSE: lambda: climb.choose(stage),
        story.TEST: lambda: conclude.open_test(stage),
        story.CONCLUDE: lambda: conclude.conclude(stage),
    }
    if name in table:
        return table[name]
    rungs = {story.make_step(rung): (climb.make_candidate, rung) for rung in prepare.planned(stage).rungs}
    rungs |= {story.measure_step(rung): (climb.measure_candidate, rung) for rung in prepare.planned(stage).rungs}
    do, rung = rungs[name]
    return lambda: do(stage, rung)


def _commit(stage: Stage, step: Step, outcome: Outcome, seconds: float) -> None:
    with stage.parts.ledger.work(stage.run.tenant) as work:
        digest = work.records.put(outcome.value)
        work.steps.complete(step, digest, seconds)
        outcome.also(work)
        facts = {"step": step.name, "result": digest} | outcome.facts
        record(work, "step.done", stage.actor.name, stage.run.id, stage.parts.clock.now(), facts)


def _give_up(stage: Stage, step: Step, error: BaseException) -> None:
    """An error fails the step (a later adapt tries it again); an interruption gives it back."""
    try:
        with stage.parts.ledger.work(stage.run.tenant) as work:
            if not isinstance(error, TailorbirdError):
                work.steps.release(step)
                return
            work.steps.fail(step, error.error_code)
            work.runs.set_state(stage.run.id, RunState.FAILED)
            facts: Facts = {"step": step.name, "code": error.error_code}
            record(work, "step.failed", stage.actor.name, stage.run.id, stage.parts.clock.now(), facts)
    except LeaseLost:
        return


@contextmanager
def _heartbeat(parts: Parts, step: Step) -> Iterator[None]:
    """Keeps the lease while the body runs. A lost lease is noticed when the result is committed."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                with parts.ledger.work(step.tenant) as work:
                    work.steps.heartbeat(step, LEASE)
            except LeaseLost:
                return
            except TailorbirdError:
                continue

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def owner(pid: int) -> str:
    """How a process of this machine signs its leases."""
    return f"{platform.node()}:{pid}"


def _gone(holder: str) -> bool:
    """True when ``holder`` was a process of this machine that no longer runs."""
    node, _, pid = holder.rpartition(":")
    if node != platform.node() or int(pid) == os.getpid():
        return node == platform.node()
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
