"""The plan of a run, made again for another machine or another budget.

In: a planned run, what shall be different. Out: a plan, kept nowhere. Must not know: how the first plan was made, models, torch.
"""

from __future__ import annotations

from tailorbird import planning
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.calibration import Calibration
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Conflict
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import StepState
from tailorbird.lifecycle.parts import Parts
from tailorbird.lifecycle.steps import story


def what_if(parts: Parts, tenant: str, run: str, change: planning.Change) -> Plan:
    """What would be planned for ``run`` if ``change`` held. Raises NotFound, Conflict (not planned yet, or by an older version)."""
    with parts.ledger.work(tenant, write=False) as work:
        found = work.runs.get(run)
        done = {step.name: step.result for step in work.steps.of(found.id) if step.state is StepState.DONE and step.result}
        plan = work.records.get(Plan, done[story.PLAN]) if story.PLAN in done else None
        if plan is None or plan.tokens is None:
            raise Conflict(f"run {found.id} has no plan to start from", "plan it first: tailorbird plan OBJECTIVE", code="not_planned")
        inputs = planning.PlanInputs(
            objective=work.records.get(Objective, found.objective),
            objective_digest=found.objective,
            snapshot=plan.snapshot,
            manifest=work.records.get(SnapshotManifest, done[story.SNAPSHOT]),
            base=work.records.get(BaseModelRef, plan.base_model),
            machine=plan.machine,
            tokens=plan.tokens,
            prices=plan.prices,
            dev_power=plan.dev_power,
            test_power=plan.test_power,
            calibrations=tuple(work.records.get(Calibration, digest) for digest in plan.calibrations),
        )
    return planning.make_plan(planning.changed(inputs, change))
