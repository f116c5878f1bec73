"""The work of a run: step after leased step, until none is left."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from tailorbird.domain.errors import Conflict, Exhausted, Forbidden, LeaseLost, TailorbirdError
from tailorbird.domain.identity import Role
from tailorbird.domain.ladder import Conclusion, RungKind
from tailorbird.domain.run import CONCLUDE, FLOOR, OPEN, PLAN, SNAPSHOT, ComputeNode, Run, RunState, Step, StepNeed, StepState, step_folder
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.artifacts import StorageQuota
from tailorbird.objective import OBJECTIVE_FILE, ObjectiveFile, parse_objective
from tailorbird.ports.compute import Compute
from tailorbird.system.files import digest_file, remove_folder
from tailorbird.system.machine import resident_gib, return_grown_memory
from tailorbird.system.outward_access import restrict_sources
from tailorbird.usecases.anchored_rows import anchored_erasures, anchored_run
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress, StepBegun
from tailorbird.usecases.erasure.places import clear_run, follow_erasures
from tailorbird.usecases.leases import heartbeat, owner
from tailorbird.usecases.runs import climb, placement, sealed_test, snapshot_and_plan, transitions
from tailorbird.usecases.runs.context import StepContext, StepOutcome, StepPayments, WatchedProgress, failed_disk, failure_of
from tailorbird.usecases.runs.transitions import outlook
from tailorbird.usecases.snapshots import certificates_of
from tailorbird.usecases.storage_quota import storing
from tailorbird.usecases.tenants import reach_of

#: Bytes of a weight as it is stored.
_WEIGHT = 4
#: How long a step's lease lasts without a heartbeat, and how often one is sent.
LEASE = timedelta(seconds=20)
HEARTBEAT_SECONDS = 4.0


@dataclass(frozen=True)
class WorkedRun:
    """A run and how it stands. ``resumed`` counts the steps that were already done when this process took it up."""

    run: Run
    steps: tuple[Step, ...]
    conclusion: Conclusion | None
    resumed: int


def objective_of(deps: Dependencies, run: Run) -> ObjectiveFile:
    """The objective file of a run, as it was submitted, from any machine. Raises NotFound, Corrupt."""
    deps = deps.for_tenant(run.tenant)
    folder = _inputs_of(deps, run) if run.inputs else Path(run.folder)
    text = deps.artifacts.get(run.source)
    file = parse_objective(text.decode("utf-8-sig"), str(_given(folder, run.source, len(text))), tenant=run.tenant)
    return file.model_copy(update={"source": Path(file.source).name}) if run.inputs else file


def _inputs_of(deps: Dependencies, run: Run) -> Path:
    """What came with the objective; a folder that is not there where an erasure took some of it. Raises NotFound, Corrupt."""
    assert run.inputs is not None
    gone = {digest for digest in deps.artifacts.tree(run.inputs).values() if not deps.artifacts.exists(digest)}
    if gone:
        with deps.ledger.work(run.tenant, write=False) as work:
            erased = {digest for erasure in anchored_erasures(work) for each in certificates_of(work, erasure) for digest in each.purged}
        if gone & erased:
            return deps.runs / run.id / "erased"
    return deps.artifacts.get_tree(run.inputs)


@lru_cache(maxsize=64)
def _given(folder: Path, source: Digest, size: int) -> Path:
    """The file of the objective in ``folder``, for messages: the one that still holds what was submitted."""
    found = [path for path in sorted(folder.glob("*.y*ml")) if path.is_file() and path.stat().st_size == size]
    return next((path for path in found if digest_file(path) == source), folder / OBJECTIVE_FILE)


def stage_of(deps: Dependencies, actor: Actor, run: Run, progress: Progress) -> StepContext:
    """The run as its next step sees it. Raises Corrupt where the run, or what a step of it left, is not what the log says."""
    deps = deps.for_tenant(run.tenant)
    with deps.ledger.work(run.tenant, write=False) as work:
        run, steps = anchored_run(work, run.id)
    return StepContext(deps=deps, actor=actor, run=run, file=objective_of(deps, run), steps=steps, progress=progress)


def work_on(deps: Dependencies, actor: Actor, run: Run, progress: Progress) -> WorkedRun:
    """Does the run's steps until none is left. Raises Busy when another process holds a step, Conflict when the run was cancelled."""
    # A release is signed by its author or by a worker for its author; nobody else can finish a run. Raises Forbidden.
    if actor.name != run.created_by and not actor.identity.holds(Role.WORKER):
        raise Forbidden(
            f"run {run.id} was submitted by {run.created_by}, and {actor.name} cannot sign for them",
            f"let {run.created_by} adapt, or let a worker do it: --detach, and tailorbird worker",
        )
    resumed = len(stage_of(deps, actor, run, progress).done)
    while (context := stage_of(deps, actor, run, progress)).next_step() is not None:
        _advance(context)
    conclusion = context.result(Conclusion, CONCLUDE)
    with context.deps.ledger.work(run.tenant) as work:
        if work.runs.get(run.id).state is RunState.ACTIVE:
            work.runs.set_state(run.id, RunState.DONE if conclusion.release else RunState.NO_RELEASE)
    return WorkedRun(context.run, context.steps, conclusion, resumed)


def plan_for(deps: Dependencies, actor: Actor, run: Run, progress: Progress, until: str = PLAN) -> StepContext:
    """Does the run's steps as far as the plan (or the step ``until``, before it), and no further. Raises as ``work_on``."""
    while until not in (context := stage_of(deps, actor, run, progress)).done:
        _advance(context, until)
    with deps.ledger.work(run.tenant) as work:
        if work.runs.get(run.id).state is RunState.PLANNING:
            work.runs.set_state(run.id, RunState.PLANNED)
    return context


def _advance(context: StepContext, until: str = "") -> None:
    """Does the next step, here or on a node, which goes on as far as ``until``; returns having done nothing while a dead process's lease
    runs out."""
    name = context.next_step()
    assert name is not None
    compute = context.deps.compute()
    if compute is not None and name not in placement.SIGNED_HERE:
        _place(context, compute, name, until)
        return
    step = _take(context.deps, context.run, name, context.progress)
    if step is not None:
        _perform(context, step)


def _place(context: StepContext, compute: Compute, name: str, until: str) -> None:
    """Has a node take the step; returns having done nothing when the node is lost meanwhile. Raises Exhausted (``step_hopeless``) when
    several nodes in a row were lost before they leased it: then nothing counts its attempts."""
    before = placement.step_of(context, name)
    for fruitless in range(placement.MOST_FRUITLESS):
        if fruitless:
            time.sleep(placement.PAUSE_SECONDS * 2 ** (fruitless - 1))
        _place_once(context, compute, name, until)
        if placement.is_begun(before, placement.step_of(context, name)):
            return
    _refuse_placing(context, name, placement.not_begun(name))


def _place_once(context: StepContext, compute: Compute, name: str, until: str) -> None:
    """Has a node do the step, and those after it that take no more, under leases that the node takes. Raises what ended a step there."""
    with context.deps.ledger.work(context.run.tenant) as work:
        _refuse_ended(work, context.run)
    nodes = compute.nodes()
    placement.require_shared(context.deps, compute, nodes)
    need = _need(context, name, nodes)
    placement.await_free(context, name)
    try:
        placement.require_room(nodes, name, need)
    except Exhausted as error:
        _refuse_placing(context, name, error)
    with _told(context, name), placement.marked(context) as mark:
        task = placement.StepTask(
            workspace=str(context.deps.workspace),
            settings=context.deps.settings_digest,
            tenant=context.run.tenant,
            actor=context.actor.name,
            run=context.run.id,
            step=name,
            need=need,
            until=name if context.plan is None and any(node.gpus for node in nodes) else until,  # the plan measures a node with GPUs
            mark=mark,
        )
        context.progress.tell(f"asking the cluster for {need.words}")
        placed = compute.place(task.model_dump_json(), need)
        placement.follow(
            context,
            placed,
            lambda work: _refuse_cancelled(context.run, work.runs.get(context.run.id).state),
            lambda begun: _tell_begun(stage_of(context.deps, context.actor, context.run, context.progress), begun),
        )


def _refuse_placing(context: StepContext, name: str, error: TailorbirdError) -> NoReturn:
    """A step that no node does fails with ``error``, so that whoever asks after the run reads why. Raises it."""
    step = _take(context.deps, context.run, name, context.progress)
    if step is not None:
        _give_up(context, step, error, 0.0)
    raise error


def _need(context: StepContext, name: str, nodes: Sequence[ComputeNode]) -> StepNeed:
    deps = context.deps
    return placement.need_of(context.plan, name, nodes, deps.step_cores, tuple(context.done), deps.training_processes)


def perform_placed(deps: Dependencies, actor: Actor, task: placement.StepTask, progress: Progress) -> None:
    """What a node does of a run: its next step, which ``task`` names, unless somebody else has done it by now, and those after it that take
    no more than was booked. What was erased elsewhere goes here before each step, which is not done otherwise, and after the last: no
    schedule runs on a node. Raises as ``work_on``, Unavailable, and Conflict when a step is asked for that its place in the run does not
    allow."""
    follow_erasures(deps)
    deps, name = deps.for_tenant(actor.tenant), task.step
    with deps.ledger.work(actor.tenant, write=False) as work:
        run = work.runs.get(task.run)
    context = replace(stage_of(deps, actor, run, progress), placed=True)
    if name in context.done:
        return
    if name != context.next_step() or name in placement.SIGNED_HERE:
        raise Conflict(f"the step {name} is not the next of run {run.id} for a node", "adapt again")
    own = not (context.folder / task.mark).exists()
    try:
        while (step := _take(deps, run, name, progress)) is not None:
            _perform(context, step)
            if name == task.until:
                return
            context = replace(stage_of(deps, actor, run, progress), placed=True)
            name = context.next_step() or ""
            if context.run.state not in OPEN or not _goes_on(context, name, task):
                return
            follow_erasures(deps)
    finally:
        # Working files of the run go with the end of a step: this workspace is a node's own, where no erasure would look for them. Whoever
        # has taken the lease away may work in the same folder.
        if own and not isinstance(sys.exception(), LeaseLost):
            clear_run(deps, run.id)
        with suppress(TailorbirdError):
            follow_erasures(deps)


def _goes_on(context: StepContext, name: str, task: placement.StepTask) -> bool:
    """Whether a process that has done a step goes on with the one called ``name``: a node does it, in what was booked."""
    if not name or name in placement.SIGNED_HERE:
        return False
    here = ComputeNode(host="", cores=task.need.cores, memory_gb=task.need.memory_gb, gpus=task.need.gpus)
    return_grown_memory()
    need = _need(context, name, [here])
    return task.need.holds(need) and resident_gib() <= need.memory_gb


def _take(deps: Dependencies, run: Run, name: str, progress: Progress) -> Step | None:
    """Leases the next step. A lease of a process that is gone is waited for; a living holder raises Busy."""
    with deps.ledger.work(run.tenant) as work:
        _refuse_ended(work, run)
        work.steps.enqueue(run.id, name)
        step = work.steps.lease(run.id, owner(), LEASE)
        held = next((s for s in work.steps.of(run.id) if s.state is StepState.LEASED), None)
    if step is not None:
        return step
    if held is not None and held.owner is not None and not _gone(held.owner):
        raise placement.run_busy(held)
    progress.tell("the process that held this step is gone; waiting for its lease to end")
    time.sleep(1.0)
    return None


def _perform(context: StepContext, step: Step) -> None:
    """Does one step under a heartbeat, and commits value, events and completion in one transaction."""
    started = time.monotonic()
    return_grown_memory()
    watched = WatchedProgress(context.progress)
    with _told(context, step.name), _given_up(context, step, started):
        # Raises Exhausted for a step that ended its worker again and again: something kills it, memory most likely. Whoever
        # adapts in the foreground, without a cluster, has seen it die, and asks for it.
        if step.deaths >= MOST_DEATHS and (context.placed or context.actor.identity.holds(Role.WORKER)):
            raise Exhausted(
                f"the step {step.name} is set aside: it ended {step.deaths} processes that worked on it, none further than the one before",
                "look what ends them (memory, most likely: see the kernel's log), then adapt again",
                code="step_hopeless",
            )
        if step.attempts % MOST_ATTEMPTS == 0:
            raise Exhausted(
                f"the step {step.name} ended {MOST_ATTEMPTS} times without a result",
                "look what ends its process (memory?), then adapt again",
                code="step_hopeless",
            )
        with storing(context.deps, context.run.tenant) as (store, quota):
            # Bytes that it is known to store before it begins: all weights, where it trains them all.
            full = next((rung for rung in context.rungs if transitions.make_step(rung) == step.name and rung.rung is RungKind.FULL), None)
            quota.require(_WEIGHT * context.base_for(full).parameters if full else 0)
            payments = StepPayments(context.deps.ledger, step)
            # Where the objective came from elsewhere, a step reads at its tenant's places alone.
            reach = reach_of(context.deps, context.run.tenant) if context.run.inputs else None
            own = replace(context, deps=replace(context.deps, artifacts=store), progress=watched.progress(), payments=payments)
            try:
                with heartbeat(HEARTBEAT_SECONDS, lambda: _beat(context, step, watched)), restrict_sources(reach):
                    outcome = _do(own, step.name)
            except OSError as error:
                raise failed_disk(error) from error
            _commit(context, step, outcome, quota, time.monotonic() - started)
            # Removes this machine's working files of a step that is committed, as the checkpoints of a training: what it made
            # is an artifact. What cannot be removed takes space and is no fault of the step; it goes when the run's folder
            # goes.
            for folder in filter(None, (context.folder, context.deps.scratch(context.run.id))):
                with suppress(OSError):
                    remove_folder(folder / step_folder(step.name))


@contextmanager
def _told(context: StepContext, name: str) -> Iterator[None]:
    """Tells that the step begins, with what the plan expects of it, and that it has ended."""
    _tell_begun(context, name)
    try:
        yield
    finally:
        context.progress.step(None)


def _tell_begun(context: StepContext, name: str) -> None:
    context.progress.step(StepBegun(context.run.id, name, len(context.done), outlook(context.plan, name, context.done)))
    context.progress.tell(f"step {name}")


@contextmanager
def _given_up(context: StepContext, step: Step, started: float) -> Iterator[None]:
    """Whatever ends the body early is noted on the step; a defect of ours fails it, so that no worker meets it again and again."""
    finished = False
    try:
        yield
        finished = True
    finally:
        error = sys.exception()
        if not finished and error is not None:
            _give_up(context, step, error, time.monotonic() - started)


def _do(context: StepContext, name: str) -> StepOutcome:
    """The outcome of the step of that name."""
    do: dict[str, Callable[[StepContext], StepOutcome]] = {
        SNAPSHOT: snapshot_and_plan.take_snapshot,
        PLAN: snapshot_and_plan.make_plan,
        FLOOR: climb.measure_floor,
        transitions.choose_step(context.look): climb.choose,
        transitions.look_step(context.look): sealed_test.open_test,
        CONCLUDE: sealed_test.conclude,
    }
    if name in do:
        return do[name](context)
    made = next((rung for rung in context.rungs if transitions.make_step(rung) == name), None)
    if made is not None:
        return climb.make_candidate(context, made)
    return climb.measure_candidate(context, next(rung for rung in context.rungs if transitions.measure_step(rung) == name))


def _commit(context: StepContext, step: Step, outcome: StepOutcome, quota: StorageQuota, seconds: float) -> None:
    """One transaction. Raises LeaseLost when another worker holds the step by now, Conflict when the run was cancelled, Exhausted when the
    quota of storage is passed: then nothing of this is written."""
    with context.deps.ledger.work(context.run.tenant) as work:
        _refuse_ended(work, context.run)
        digest = work.records.put(outcome.value)
        work.steps.complete(step, digest, seconds)
        outcome.also(work)
        quota.enter(work)
        facts = {"step": step.name, "result": digest} | outcome.facts
        record(work, "step.done", context.actor.name, context.run.id, context.deps.clock.now(), facts)
    quota.entered()


def _give_up(context: StepContext, step: Step, error: BaseException, seconds: float) -> None:
    """An error fails the step (a later adapt tries it again); an interruption, a cancellation and a record that was away give it back."""
    code = error.error_code if isinstance(error, TailorbirdError) else "internal"
    given_back = not isinstance(error, Exception) or code in (RUN_CANCELLED, *_RECORD_AWAY)
    if code == RUN_CANCELLED:
        with context.deps.ledger.work(context.run.tenant, write=False) as work:
            reached = {run for erasure in anchored_erasures(work) for each in certificates_of(work, erasure) for run in each.reach.runs}
        if context.run.id in reached:  # what this process wrote since then must not stay
            remove_folder(context.folder)
    with suppress(LeaseLost), context.deps.ledger.work(context.run.tenant) as work:
        if given_back:
            work.steps.release(step, seconds)
            return
        work.steps.fail(step, failure_of(error), seconds)
        if work.runs.get(context.run.id).state in OPEN:
            waits = code == "rung_not_allowed"  # nothing is wrong: somebody must decide
            work.runs.set_state(context.run.id, RunState.WAITING if waits else RunState.FAILED)
        facts: Facts = {"step": step.name, "code": code}
        record(work, "step.failed", context.actor.name, context.run.id, context.deps.clock.now(), facts)


def _beat(context: StepContext, step: Step, watched: WatchedProgress) -> bool:
    """Keeps the lease; has the body ended, and returns False, when the lease is lost or the run cancelled."""
    try:
        with context.deps.ledger.work(step.tenant) as work:
            work.steps.heartbeat(step, LEASE, watched.last)
            _refuse_ended(work, context.run)
    except Conflict as error:
        watched.end(error)
        return False
    return True


#: Leases of one step after which it is given up until somebody adapts again.
MOST_ATTEMPTS = 20
#: Processes of workers that may die in the middle of one step, none further than the one before, until it is set aside likewise.
MOST_DEATHS = 2
#: The code with which a cancelled run ends its step.
RUN_CANCELLED = "run_cancelled"
#: The codes of a record that could not be asked for a while. That says nothing about the step: whoever comes next does it.
_RECORD_AWAY = ("database_unreachable", "database_busy")


def _refuse_ended(work: UnitOfWork, run: Run) -> None:
    """Raises Conflict unless the run is to be worked on."""
    state = work.runs.get(run.id).state
    _refuse_cancelled(run, state)
    if state not in OPEN:
        raise Conflict(
            f"run {run.id} is over: {state.word}", f"see tailorbird runs show {run.id}; adapt again to try again", code="run_ended"
        )


def _refuse_cancelled(run: Run, state: RunState) -> None:
    """Raises Conflict when the run was cancelled."""
    if state is RunState.CANCELLED:
        raise Conflict(f"run {run.id} was cancelled", "adapt again to go on where it stopped", code=RUN_CANCELLED)


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
