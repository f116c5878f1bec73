"""Plans with base-model probes, measured number formats or fresh timings, and the doctor: training problems found before anything is
spent."""

from __future__ import annotations

from pathlib import Path

from tailorbird import planning
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.ladder import Refusal
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.timing import Retiming
from tailorbird.domain.value import Value
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.climb.base_probe import probe_bases
from tailorbird.usecases.climb.format_loss import measure_formats
from tailorbird.usecases.climb.known_formats import with_known_formats
from tailorbird.usecases.climb.preflight import ExaminedRung, examine_rungs
from tailorbird.usecases.climb.snapshot_and_plan import draft_plan, offers_of, planned
from tailorbird.usecases.climb.timing import machine_name
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local
from tailorbird.usecases.runs.step_runner import plan_for
from tailorbird.usecases.runs.submit import plan, submit
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext


@local(Action.PLAN)
def plan_with_probes(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> tuple[Run, Plan]:
    """The run and its frozen plan; bases that planning did not probe are probed now. That changes nothing of what is frozen: it is shown,
    and an event. Raises as ``plan`` does."""
    context = plan(deps, actor, path, progress)
    frozen = planned(context)
    able = {} if all(base.probe or not base.rungs for base in frozen.bases) else planning.bases_to_probe(offers_of(context))
    if not able:
        return context.run, frozen
    found = probe_bases(context, able)
    with deps.ledger.work(actor.tenant) as work:
        for label, probe in found.items():
            facts: Facts = {"base": label, "rows": probe.rows, "score": round(probe.score.value, 4)}
            record(work, "base.probed", actor.name, context.run.id, deps.clock.now(), facts)
    bases = tuple(base.model_copy(update={"probe": base.probe or found.get(base.label)}) for base in frozen.bases)
    return context.run, frozen.model_copy(update={"bases": bases})


@local(Action.PLAN)
def plan_shown(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> tuple[Run, Plan]:
    """The run and its frozen plan, with what has been measured of number formats since. Raises as ``plan`` does."""
    context = plan(deps, actor, path, progress)
    return context.run, with_known_formats(context, planned(context))


@local(Action.PLAN)
def plan_with_formats(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> tuple[Run, Plan]:
    """The same after the number formats of the engine were measured here, which later plans of this objective show too. Raises as
    ``plan`` and ``measure_formats`` do."""
    context = plan(deps, actor, path, progress)
    measured = measure_formats(context)
    with deps.ledger.work(actor.tenant) as work:
        for one in measured:
            work.records.put(one)
            offered = [each for each in one.readings if not each.refused]
            facts: Facts = {"candidate": one.label, "rows": one.rows, "formats": len(offered), "measurement": digest_of(one)}
            record(work, "formats.measured", actor.name, context.run.id, deps.clock.now(), facts)
    return context.run, with_known_formats(context, planned(context))


@local(Action.PLAN)
def plan_retimed(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> StepContext:
    """Plans by nothing that was timed on this machine before. A plan that a climb has begun to follow stays: the next one is timed anew.

    Raises as ``plan`` does.
    """
    run = submit(deps, actor, path, RunState.PLANNING)
    machine, now = machine_name(deps.trainer().measure_machine()), deps.clock.now()
    with deps.ledger.work(run.tenant) as work:
        planned = any(step.name == transitions.PLAN and step.result for step in work.steps.of(run.id))
        again = bool(work.steps.retry(run.id, done=transitions.PLAN))
        work.records.put(Retiming(machine=machine, at=now))
        record(work, "plan.retimed", actor.name, run.id, now, {"replanned": again})
    if planned and not again:
        progress.tell(
            f"run {run.id} follows its plan already, which stays; what was timed here is forgotten, and the next plan times it anew"
        )
    return plan_for(deps, actor, run, progress)


class Checkup(Value):
    """What was found for each rung that would train; ``left_out`` are rungs that the plan does not try, and why."""

    rungs: tuple[ExaminedRung, ...]
    left_out: tuple[Refusal, ...]

    @property
    def healthy(self) -> bool:
        """True when nothing stands in the way of any rung."""
        return not any(one.examination.blocking for one in self.rungs)


@local(Action.PLAN)
def examine_objective(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> Checkup:
    """Freezes the data and fetches the base model as ``plan`` does, drafts the plan, and examines what it would train.

    The run it leaves is the one that ``plan`` and ``adapt`` take up; no plan is frozen. Raises as ``adapt`` does.
    """
    context = plan_for(deps, actor, submit(deps, actor, path, RunState.PLANNED), progress, until=transitions.SNAPSHOT)
    plan, refs = draft_plan(context)
    return Checkup(rungs=examine_rungs(context, plan, refs), left_out=plan.left_out)
