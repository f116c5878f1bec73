"""Preflight examination of each rung that a plan would train."""

from __future__ import annotations

from collections.abc import Container, Sequence

from tailorbird import rungs
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Refusal
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.preflight import Examination, PreflightFinding
from tailorbird.domain.value import Value
from tailorbird.usecases.climb.base_candidates import Refs, ref_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.steps.transitions import named


class ExaminedRung(Value):
    """A rung and what an examination of its training found."""

    rung: RungPlan
    examination: Examination


def examine_rungs(context: StepContext, plan: Plan, refs: Refs, reused: Container[str] = ()) -> tuple[ExaminedRung, ...]:
    """Examines each rung of ``plan`` that trains, those ``reused`` (by name) left out. Takes seconds, and trains nothing."""
    speaks = context.objective.task.kind is not TaskKind.RANK
    trained = [rung for rung in plan.rungs if rung.trains_base and speaks and named(rung) not in reused]
    if trained:
        context.progress.tell("examining what would be trained")
    return tuple(_examined(context, rung, ref_of(refs, plan, rung)) for rung in trained)


def _examined(context: StepContext, rung: RungPlan, base: BaseModelRef) -> ExaminedRung:
    return ExaminedRung(rung=rung, examination=context.deps.trainer().examine(rungs.training_job(context_of(context, rung, base))))


def heeded(plan: Plan, examined: Sequence[ExaminedRung]) -> Plan:
    """The plan without the rungs in whose way something stands, and with all other findings.

    Raises InvalidInput, with the finding's code, when something stands in the way of every rung that trains.
    """
    blocked = {one.rung: one.examination.blocking for one in examined if one.examination.blocking}
    if blocked and all(rung in blocked for rung in plan.rungs if rung.training is not None):
        raise _blocked(next(iter(blocked.values())))
    refusals = [Refusal(rung=rung.rung, variant=rung.variant, reason=found[0].what) for rung, found in blocked.items()]
    kept = [one for one in examined if one.rung not in blocked]
    return plan.model_copy(
        update={
            "rungs": tuple(rung for rung in plan.rungs if rung not in blocked),
            "left_out": (*plan.left_out, *refusals),
            "findings": tuple(dict.fromkeys(finding for one in kept for finding in one.examination.findings)),
        }
    )


def _blocked(found: tuple[PreflightFinding, ...]) -> InvalidInput:
    more = f" (and {len(found) - 1} more: tailorbird doctor shows all)" if len(found) > 1 else ""
    return InvalidInput(f"{found[0].what}{more}", found[0].remedy, code=found[0].code)
