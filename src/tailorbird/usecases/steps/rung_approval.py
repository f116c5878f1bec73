"""Approval of a rung: at high risk, full fine-tuning needs the consent of a deciding role."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.errors import Conflict, Forbidden
from tailorbird.domain.ladder import Allowance, RungKind
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.plan import RungPlan
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_records
from tailorbird.usecases.audit_events import permit, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import RunId, usecase
from tailorbird.usecases.steps.step_context import StepContext


def require_allowance(context: StepContext, rung: RungPlan) -> None:
    """Raises Conflict ``rung_not_allowed`` for full fine-tuning at high risk that nobody has allowed. The run waits, and loses nothing."""
    if rung.rung is not RungKind.FULL or context.objective.business.risk is not RiskTier.HIGH:
        return
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        given = allowances_of(work, context.run.id)
    if not any(one.rung is rung.rung for one in given):
        raise Conflict(
            f"all weights are to be trained next, and the risk is high: somebody must allow {rung.rung.value} for run {context.run.id}",
            f"what cheaper rungs reached: tailorbird evidence {context.run.id}; an approver: tailorbird runs allow {context.run.id} "
            "--as approver; then adapt again",
            code="rung_not_allowed",
        )


def allowances_of(work: UnitOfWork, run: str) -> tuple[Allowance, ...]:
    """What somebody allowed the run."""
    return tuple(one for digest in anchored_records(work, Allowance) if (one := work.records.get(Allowance, digest)).run == run)


@usecase("run.allow", "POST", "/api/runs/{run}/allow", Action.ALLOW_RUNG)
def allow(deps: Dependencies, actor: Actor, run: RunId, rung: RungKind, reason: Annotated[str, Field(max_length=2000)] = "") -> Allowance:
    """Allow a rung that needs leave: all weights, where the risk is high.

    Raises NotFound, Forbidden (no decider, or the author of the run).
    """
    permit(deps, actor, Action.ALLOW_RUNG, run)
    with deps.ledger.work(actor.tenant) as work:
        found = work.runs.get(run)
        if found.created_by == actor.name:
            raise Forbidden(f"{actor.name} submitted run {found.id} and cannot allow it", "let somebody else decide", code="own_run")
        allowance = Allowance(run=found.id, rung=rung, by=actor.name, reason=reason)
        work.records.put(allowance)
        record(work, "rung.allowed", actor.name, found.id, deps.clock.now(), {"rung": rung.value, "reason": remark(work, reason)})
    return allowance
