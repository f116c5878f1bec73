"""Runs and objectives: listed, and shown with everything they have led to so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Conflict
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Climb, Conclusion, Ladder, Making, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import FINISHED, Outlook, Run, RunState, Step, StepState, TrainingOrigin, results_of
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import REPEATED, EndedClimb, remedies
from tailorbird.usecases.anchored_rows import anchored_steps
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PageSize, RunId, Skip, usecase
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import climb_of, looks_of, number_of
from tailorbird.usecases.steps.transitions import outlook

V = TypeVar("V", bound=Value)


class RunReport(Value):
    """What is not there yet is None. ``climbs`` are the rungs measured so far, ``looks`` those at the sealed test; ``test`` is the last of
    them, ``gate`` and ``evidence`` are its own. ``remedies`` are sentences on what could lead to a release where the run ended without.
    ``reused`` tells, by step, whose training was reused instead of training again."""

    run: Run
    steps: tuple[Step, ...]
    objective: Objective
    manifest: SnapshotManifest | None = None
    base: BaseModelRef | None = None
    plan: Plan | None = None
    climbs: tuple[Climb, ...] = ()
    ladder: Ladder | None = None
    looks: tuple[SealedTest, ...] = ()
    test: SealedTest | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None
    remedies: tuple[str, ...] = ()
    reused: dict[str, TrainingOrigin] = Field(default_factory=dict)


class RunPage(Value):
    """Some of the tenant's runs, newest first, and how many there are."""

    runs: tuple[Run, ...]
    total: int


class ObjectiveHead(Value):
    """What an objective has come to: its newest run, and its public name, where there are any."""

    name: str
    run: Run | None
    alias: Alias | None


class ObjectiveList(Value):
    """The tenant's objectives: all that were run for or have a public name, by name."""

    objectives: tuple[ObjectiveHead, ...]


@usecase("run.list", "GET", "/api/runs", Action.SHOW_RUN)
def list_runs(deps: Dependencies, actor: Actor, limit: PageSize = 50, skip: Skip = 0) -> RunPage:
    """List runs, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return RunPage(runs=work.runs.latest(limit, skip), total=work.runs.count())


@usecase("objective.list", "GET", "/api/objectives", Action.SHOW_RUN)
def list_objectives(deps: Dependencies, actor: Actor) -> ObjectiveList:
    """List objectives, each with its newest run and its public name."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        newest = {run.objective_name: run for run in work.runs.newest_by_objective()}
        aliases = {alias.name: alias for alias in work.aliases.all()}
    names = sorted(newest.keys() | aliases.keys())
    return ObjectiveList(objectives=tuple(ObjectiveHead(name=name, run=newest.get(name), alias=aliases.get(name)) for name in names))


@usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)
def show_run(deps: Dependencies, actor: Actor, run: RunId) -> RunReport:
    """Show a run with all it led to so far.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return report_of(work, work.runs.get(run))


def report_of(work: UnitOfWork, run: Run) -> RunReport:
    """The run with all it led to so far, as ``work`` sees it."""
    (steps,) = anchored_steps(work, run)
    done = results_of(steps)
    plan = _at(work, Plan, done.get(transitions.PLAN))
    looks = looks_of(work, done)
    test = looks[-1] if looks else None
    climbs = [climb_of(work, done.get(transitions.measure_step(rung))) for rung in (plan.rungs if plan else ())]
    report = RunReport(
        run=run,
        steps=steps,
        objective=work.records.get(Objective, run.objective),
        manifest=_at(work, SnapshotManifest, done.get(transitions.SNAPSHOT)),
        base=_at(work, BaseModelRef, plan.base_model if plan else None),
        plan=plan,
        climbs=tuple(climb for climb in climbs if climb is not None),
        ladder=_at(work, Ladder, done.get(transitions.choose_step(number_of(looks)))),
        looks=looks,
        test=test,
        gate=_at(work, GateResult, test.gate if test else None),
        evidence=_at(work, Evidence, test.evidence if test else None),
        conclusion=_at(work, Conclusion, done.get(transitions.CONCLUDE)),
        reused={step: making.reused for step, making in _makings(work, plan, done) if making.reused},
    )
    return report.model_copy(update={"remedies": _remedies(report)})


def _remedies(report: RunReport) -> tuple[str, ...]:
    """What could lead to a release, where the run ended without one."""
    ladder, conclusion, manifest = report.ladder, report.conclusion, report.manifest
    if ladder is None or manifest is None or conclusion is None or conclusion.release is not None:
        return ()
    again = tuple(f"{each.sentence}; once that is mended, {REPEATED}" for each in ladder.refused if each.failed)
    again += tuple(each.remedy for each in ladder.refused if each.remedy)
    if not ladder.measured:
        return again
    rungs = ladder.measured if ladder.floor_is_rung or not ladder.climbs else ladder.climbs
    tested = next((climb for climb in ladder.measured if report.test and climb.candidate == report.test.candidate), None)
    ended = EndedClimb(report.objective, tested or transitions.closest(rungs), manifest.counts)
    if tested and report.test and report.evidence and report.gate:
        ended = replace(ended, test=(report.evidence, report.gate), looks=report.test.look)
    return (*again, *remedies(ended))


def _makings(work: UnitOfWork, plan: Plan | None, done: dict[str, Digest]) -> Iterator[tuple[str, Making]]:
    """How each rung was made, by the name of its step."""
    for rung in plan.rungs if plan else ():
        if (step := transitions.make_step(rung)) in done:
            yield step, work.records.get(Making, done[step])


def _at(work: UnitOfWork, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else work.records.get(kind, digest)


#: States in which a run is a job.
OPEN = (RunState.PLANNING, RunState.ACTIVE)


class Job(Value):
    """A run and its step in hand, with what the plan expects yet. Without ``step``, or with one whose lease has run out, it waits for a
    worker."""

    run: Run
    step: Step | None
    done: int
    working: bool
    seconds: float
    outlook: Outlook = Outlook()


class JobList(Value):
    """What is being done or waits to be."""

    jobs: tuple[Job, ...]


@usecase("job.list", "GET", "/api/jobs", Action.SHOW_RUN)
def list_jobs(deps: Dependencies, actor: Actor) -> JobList:
    """List what is being done or waits for a worker.

    The newest first, a thousand at most.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return JobList(jobs=tuple(_job(deps, work, run) for run in work.runs.in_states(OPEN, limit=1000)))


@usecase("job.show", "GET", "/api/jobs/{run}", Action.SHOW_RUN)
def show_job(deps: Dependencies, actor: Actor, run: RunId) -> Job:
    """Show how far a run is.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return _job(deps, work, work.runs.get(run))


@usecase("job.cancel", "POST", "/api/jobs/{run}/cancel", Action.CANCEL_RUN)
def cancel_run(deps: Dependencies, actor: Actor, run: RunId) -> Run:
    """Cancel a run; what is finished stays.

    Its step ends within a few seconds. Raises NotFound, Conflict (it has ended).
    """
    with deps.ledger.work(actor.tenant) as work:
        found = work.runs.get(run)
        if found.state in (*FINISHED, RunState.CANCELLED):
            raise Conflict(f"run {found.id} is over already: {found.state.word}", "there is nothing to cancel", code="run_ended")
        work.runs.set_state(found.id, RunState.CANCELLED)
        record(work, "run.cancelled", actor.name, found.id, deps.clock.now(), {"objective": found.objective_name})
        return work.runs.get(found.id)


def _job(deps: Dependencies, work: UnitOfWork, run: Run) -> Job:
    steps = work.steps.of(run.id)
    step = next((step for step in steps if step.state is not StepState.DONE), None)
    held = step is not None and step.state is StepState.LEASED and step.lease_until is not None and step.lease_until > deps.clock.now()
    done = [step for step in steps if step.state is StepState.DONE]
    found = results_of(done)
    plan = work.records.get(Plan, found[transitions.PLAN]) if step is not None and transitions.PLAN in found else None
    expected = outlook(plan, step.name, found) if step is not None else Outlook()
    return Job(run=run, step=step, done=len(done), working=held, seconds=sum(step.seconds for step in done), outlook=expected)
