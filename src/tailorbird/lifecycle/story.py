"""The order of the story, as pure functions: what comes next, and why the climb goes on or ends.

In: the plan, the climbs so far, what was spent. Out: the next step's name, a choice with its reason, the chosen
candidate. Must not know: ports, files, how a step is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tailorbird.domain.evidence import Comparison, Standing, Verdict
from tailorbird.domain.ladder import Choice, Climb
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import Plan, RungPlan

SNAPSHOT, PLAN, FLOOR, CHOOSE, TEST, CONCLUDE = "snapshot", "plan", "floor", "choose", "test", "conclude"


def make_step(rung: RungPlan) -> str:
    """The name of the step that makes a rung's candidate."""
    return f"make {rung.rung.value} {rung.variant}"


def measure_step(rung: RungPlan) -> str:
    """The name of the step that measures it and decides."""
    return f"measure {rung.rung.value} {rung.variant}"


def next_step(objective: Objective, done: Collection[str], plan: Plan | None, climbs: Sequence[Climb], chosen: bool) -> str | None:
    """The step to do next, or None when the story is told. ``chosen`` is whether ``choose`` found a candidate."""
    opening = [SNAPSHOT, PLAN] + ([FLOOR] if objective.task.kind is TaskKind.CLASSIFY else [])
    ending = [CHOOSE] + ([TEST] if chosen else []) + [CONCLUDE]
    steps = opening + (_climbing(plan, climbs) if plan else []) + ending
    return next((step for step in steps if step not in done), None)


def _climbing(plan: Plan, climbs: Sequence[Climb]) -> list[str]:
    """Steps of the rungs climbed so far and, unless the climb has ended, of the next one."""
    ended = bool(climbs) and climbs[-1].choice is not Choice.CLIMB
    reached = plan.rungs[: len(climbs) + (0 if ended else 1)]
    return [step for rung in reached for step in (make_step(rung), measure_step(rung))]


def decide(objective: Objective, plan: Plan, position: int, verdict: Verdict, gate_reason: str, hours_spent: float) -> tuple[Choice, str]:
    """What to do after the rung at ``position`` (0-based) got ``verdict`` on dev, and the reason a person reads."""
    following = plan.rungs[position + 1] if position + 1 < len(plan.rungs) else None
    if following is None:
        return Choice.STOP, f"{gate_reason}; no costlier rung is left"
    if objective.ladder != "auto":
        return Choice.CLIMB, f"{gate_reason}; the objective asks to compare {following.rung.value} too"
    if verdict is Verdict.PASS:
        return Choice.STOP, f"{gate_reason}; a costlier rung is not needed"
    needed = following.time.likely / 3600
    if hours_spent + needed > objective.budget.hours:
        left = max(0.0, objective.budget.hours - hours_spent)
        return Choice.REFUSE, f"{gate_reason}; {following.rung.value} needs about {needed:.2f} h and {left:.2f} h of the budget are left"
    return Choice.CLIMB, f"{gate_reason}; {following.rung.value} is next"


def choose(climbs: Sequence[Climb], compare: Callable[[Climb, Climb], Comparison]) -> tuple[Climb | None, str]:
    """The cheapest candidate that passes on dev, unless a costlier one that passes is better by more than the margin.

    ``compare(upper, lower)`` gives the paired difference of two climbs on the same items.
    """
    passing = [climb for climb in climbs if climb.gate.verdict is Verdict.PASS]
    if not passing:
        return None, _none_passes(climbs)
    chosen, reasons = passing[0], [f"{named(passing[0])} is the cheapest rung that passes on dev"]
    for costlier in passing[1:]:
        standing = compare(costlier, chosen)
        reasons.append(_standing_reason(standing, costlier, chosen))
        if standing.standing is Standing.BETTER:
            chosen = costlier
    return chosen, "; ".join(reasons)


def named(climb: Climb) -> str:
    """A climb as people name it: ``lora r16``."""
    return f"{climb.rung.value} {climb.variant}"


def _standing_reason(found: Comparison, costlier: Climb, cheaper: Climb) -> str:
    difference = f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    if found.standing is Standing.BETTER:
        return f"{named(costlier)} is better than {named(cheaper)} by more than the margin ({difference})"
    if found.standing is Standing.TIE:
        return f"{named(costlier)} ties with {named(cheaper)} ({difference}), so the cheaper wins"
    if found.standing is Standing.WORSE:
        return f"{named(costlier)} is worse than {named(cheaper)} ({difference})"
    more = f", {found.items_needed} more items would settle it" if found.items_needed else ""
    return f"{named(costlier)} is not proven better than {named(cheaper)} ({difference}{more}), so the cheaper stays"


def _none_passes(climbs: Sequence[Climb]) -> str:
    if not climbs:
        return "no rung could be tried"
    best = max(climbs, key=lambda climb: (climb.gate.verdict is Verdict.INCONCLUSIVE, climb.evidence.n))
    return f"no rung passes on dev; nearest is {named(best)}: {best.gate.reason}"
