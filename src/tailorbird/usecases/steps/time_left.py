"""Time left of a run, as its plan estimates."""

from __future__ import annotations

from collections.abc import Collection

from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.run import Outlook
from tailorbird.usecases.steps.transitions import CONCLUDE, FLOOR, make_step, measure_step


def outlook(plan: Plan | None, name: str, done: Collection[str]) -> Outlook:
    """Expected time of the step ``name`` and, at most, of the whole climb from its beginning; nothing without a plan, or at the end.

    The climb may end on any rung, so that the sum over all that are left is the most that it takes. Of a sealed test the plan says nothing:
    it is taken to last as long as the longest measurement on dev.
    """
    if plan is None or name == CONCLUDE:
        return Outlook()
    floor = plan.floor.time.likely if plan.floor and plan.floor.time else 0.0
    left = {} if FLOOR in done else {FLOOR: floor}
    for rung in plan.rungs:
        left |= {step: seconds for step, seconds in _parts_of(rung).items() if step not in done}
    look = max((seconds for rung in plan.rungs for step, seconds in _parts_of(rung).items() if step == measure_step(rung)), default=floor)
    return Outlook(step=left.get(name) or None, climb=sum(left.values()) + look)


def _parts_of(rung: RungPlan) -> dict[str, float]:
    """Seconds of making a rung's candidate and of measuring it. What is not trained is made by asking as it is measured."""
    making = rung.training_time.likely if rung.training_time else 0.0
    return {make_step(rung): making, measure_step(rung): max(0.0, rung.time.likely - making)}
