"""The doctor: what would go wrong with an objective's training, found in seconds and before anything is spent.

In: an objective file and an actor. Out: the findings for each rung that would train, with the first batch as the model will see it. Must
not know: how a fault is found (``training/``), how findings are shown.
"""

from __future__ import annotations

from pathlib import Path

from tailorbird.access import Action
from tailorbird.domain.ladder import Refusal
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Value
from tailorbird.lifecycle.climbing.examining import ExaminedRung, examine_rungs
from tailorbird.lifecycle.climbing.prepare import draft_plan
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.running.adapt import submit
from tailorbird.lifecycle.running.working import plan_for
from tailorbird.lifecycle.steps import story


class Checkup(Value):
    """What was found for each rung that would train; ``left_out`` are rungs that the plan does not try, and why."""

    rungs: tuple[ExaminedRung, ...]
    left_out: tuple[Refusal, ...]

    @property
    def healthy(self) -> bool:
        """True when nothing stands in the way of any rung."""
        return not any(one.examination.blocking for one in self.rungs)


def examine_objective(parts: Parts, actor: Actor, path: Path, progress: Progress) -> Checkup:
    """Freezes the data and fetches the base model as ``plan`` does, drafts the plan, and examines what it would train.

    The run it leaves is the one that ``plan`` and ``adapt`` take up; no plan is frozen. Raises as ``adapt`` does.
    """
    permit(parts, actor, Action.PLAN, path.name)
    stage = plan_for(parts, actor, submit(parts, actor, path, RunState.PLANNED), progress, until=story.SNAPSHOT)
    plan, refs = draft_plan(stage)
    return Checkup(rungs=examine_rungs(stage, plan, refs), left_out=plan.left_out)
