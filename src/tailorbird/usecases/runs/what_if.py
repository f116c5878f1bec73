"""The plan of a run, made again for another machine or another budget."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird import planning
from tailorbird.auth import Action
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Conflict
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan, PlannedBase, PlannedFloor, TokenProfile
from tailorbird.domain.run import Run, results_of
from tailorbird.domain.timing import Calibration
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_run
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import RunId, usecase
from tailorbird.usecases.steps import transitions


class PlanChange(planning.MachineChange):
    """A planned run, and what shall be different."""

    run: RunId


@usecase("plan.what_if", "POST", "/api/runs/{run}/what-if", Action.SHOW_RUN)
def replan(deps: Dependencies, actor: Actor, change: PlanChange) -> Plan:
    """Plan a run again for another machine, budget or traffic; keeps nothing.

    Raises NotFound, Conflict (not planned yet, or by an older version).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found, steps = anchored_run(work, change.run)
        done = results_of(steps)
        plan = work.records.get(Plan, done[transitions.PLAN]) if transitions.PLAN in done else None
        if plan is None or plan.tokens is None:
            raise Conflict(f"run {found.id} has no plan to start from", "plan it first: tailorbird plan OBJECTIVE", code="not_planned")
        asked = _Asked(work, found, plan, work.records.get(SnapshotManifest, done[transitions.SNAPSHOT]))
        offers = [_offer(asked, base, change) for base in plan.bases or (_only(work, plan),)]
    drafted = planning.make_ladder(offers)
    floor = drafted.floor if plan.encoder else _unknown_floor(plan)
    return drafted.model_copy(update={"floor": floor, "incumbent": plan.incumbent})


def _unknown_floor(plan: Plan) -> PlannedFloor | None:
    """The floor of a plan whose encoder is not on record, or that has none: what it takes elsewhere is not known."""
    unknown = dict.fromkeys(("time", "vectors_time", "memory", "money", "energy", "serving_cost", "total"))
    return plan.floor.model_copy(update=unknown) if plan.floor else None


@dataclass(frozen=True)
class _Asked:
    """A planned run, as it is read."""

    work: UnitOfWork
    run: Run
    plan: Plan
    manifest: SnapshotManifest


def _only(work: UnitOfWork, plan: Plan) -> PlannedBase:
    """The base of a plan from the time when there was one."""
    base = work.records.get(BaseModelRef, plan.base_model)
    known = {"name": base.name, "label": base.name, "license": base.license, "parameters": base.parameters}
    return PlannedBase.model_validate(known | {"rungs": len(plan.rungs), "reason": "", "base": plan.base_model, "tokens": plan.tokens})


def _offer(asked: _Asked, base: PlannedBase, change: planning.MachineChange) -> planning.BaseOffer:
    """A base as it would be offered; one that was not fetched stays out."""
    inputs = (
        None if base.base is None or base.tokens is None else planning.with_machine_change(_inputs(asked, base.base, base.tokens), change)
    )
    out = "" if inputs else f"it was not fetched here ({base.reason.removeprefix('out: ')})"
    return planning.BaseOffer(
        name=base.name, label=base.label, license=base.license, parameters=base.parameters, inputs=inputs, out=out, probe=base.probe
    )


def _inputs(asked: _Asked, base: Digest, tokens: TokenProfile) -> planning.PlanInputs:
    work, plan = asked.work, asked.plan
    return planning.PlanInputs(
        objective=work.records.get(Objective, asked.run.objective),
        objective_digest=asked.run.objective,
        snapshot=plan.snapshot,
        manifest=asked.manifest,
        base=work.records.get(BaseModelRef, base),
        machine=plan.machine,
        tokens=tokens,
        prices=plan.prices,
        dev_power=plan.dev_power,
        test_power=plan.test_power,
        shift=plan.shift,
        encoder=work.records.get(BaseModelRef, plan.encoder) if plan.encoder else None,
        documents=asked.manifest.sealed_documents.size if asked.manifest.sealed_documents else 0,
        calibrations=tuple(work.records.get(Calibration, digest) for digest in plan.calibrations),
        comparison=plan.comparison,
        ranker=next((rung.ranker for rung in plan.rungs if rung.ranker), None),
        endpoint=next((rung.endpoint for rung in plan.rungs if rung.endpoint and rung.base in (None, base)), None),
        proposer=next((rung.proposer for rung in plan.rungs if rung.proposer), None),
    )
