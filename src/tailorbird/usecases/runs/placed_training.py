"""What a node does that trains with the one that does the step."""

from __future__ import annotations

from dataclasses import replace

from tailorbird.usecases.climb.team_training import train_with_lead
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.runs.step_placement import MemberTask, not_shared
from tailorbird.usecases.runs.step_runner import stage_of
from tailorbird.usecases.steps import transitions


def train_placed(deps: Dependencies, actor: Actor, task: MemberTask, progress: Progress) -> bool:
    """Trains with the one that does the step which ``task`` names; False where there was nothing to train. It holds no lease. Raises
    InvalidInput (``workspace_not_shared``, ``node_differs``), and as ``Trainer.train_in_team``."""
    deps = deps.for_tenant(actor.tenant)
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.runs.get(task.run)
    context = replace(stage_of(deps, actor, found, progress), placed=True)
    if task.step in context.done:
        return False
    if not (context.folder / task.mark).exists():
        raise not_shared()
    rung = next(rung for rung in (context.plan.rungs if context.plan else ()) if transitions.make_step(rung) == task.step)
    assert task.team is not None
    return train_with_lead(context, task.team, rung, task.rank)
