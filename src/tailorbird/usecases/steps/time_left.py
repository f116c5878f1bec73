"""Time left of a run, as its plan estimates."""

from __future__ import annotations

from collections.abc import Collection

from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.run import Outlook
from tailorbird.usecases.steps.transitions import CHOOSE, CONCLUDE, FLOOR, TEST, make_step, measure_step


def outlook(plan: Plan | None, name: str, done: Collection[str]) -> Outlook:
    """Expected time of the step ``name`` and, at most, of the whole climb from its beginning; nothing without a plan, or at the end.

    The climb may end on any rung, so that the sum over this rung and all above it is the most that it takes; rungs below that were passed
    over, or failed, take nothing more. Of a sealed test the plan says nothing: it is taken to last as long as the longest measurement on
    dev of what it may be opened for, which is what was measured once the climb has ended.
    """
    if plan is None or name == CONCLUDE:
        return Outlook()
    floor = {FLOOR: plan.floor.time.likely} if plan.floor and plan.floor.time else {}
    parts = floor | {step: seconds for rung in plan.rungs for step, seconds in _parts_of(rung).items()}
    ended = name.split()[0] in (CHOOSE, TEST)
    ahead = list(parts)[list(parts).index(name) :] if name in parts else [] if ended else list(parts)
    left = {step: parts[step] for step in ahead if step not in done}
    measured = [FLOOR, *map(measure_step, plan.rungs)]
    look = max((parts[step] for step in measured if step in parts and (step in done or not ended)), default=0.0)
    return Outlook(step=left.get(name) or None, climb=sum(left.values()) + look)


def _parts_of(rung: RungPlan) -> dict[str, float]:
    """Seconds of making a rung's candidate and of measuring it. What reads and trains nothing is made by asking as it is measured."""
    making = sum(part.likely for part in (rung.index_time, rung.training_time) if part)
    return {make_step(rung): making, measure_step(rung): max(0.0, rung.time.likely - making)}
