"""Jobs: runs that somebody works on, or that wait for a worker."""

from __future__ import annotations

from tailorbird.auth import Action
from tailorbird.domain.errors import Conflict
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import FINISHED, Outlook, Run, RunState, Step, StepState, results_of
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.parameters import RunId
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.transitions import outlook

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
