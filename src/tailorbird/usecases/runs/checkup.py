"""Checkup of an objective: training problems found before anything is spent."""

from __future__ import annotations

from pathlib import Path

from tailorbird.auth import Action
from tailorbird.domain.ladder import Refusal
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Value
from tailorbird.usecases.climb.snapshot_and_plan import ExaminedRung, draft_plan, examine_rungs
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local
from tailorbird.usecases.runs.step_runner import plan_for
from tailorbird.usecases.runs.submit import submit
from tailorbird.usecases.steps import transitions


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
