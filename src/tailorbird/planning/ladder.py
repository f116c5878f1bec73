"""The plan as a whole: the rungs in the order of what they cost in all, and those left out."""

from __future__ import annotations

from collections.abc import Callable

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Plan, Reason, RungPlan
from tailorbird.planning.feasibility import limit_of, refusal, too_large
from tailorbird.planning.floor import planned_floor
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.ranking_ladder import ranking_rungs
from tailorbird.planning.rung_plans import few_shot, full, grounded_lora, grounding, larger_lora, lora, nearest, qlora, zero_shot
from tailorbird.planning.setting_rules import RANKS, rank
from tailorbird.planning.totals import ordered


def make_plan(inputs: PlanInputs) -> Plan:
    """The frozen plan of a climb, cheapest rung first: making and traffic together. A rung that this machine or the budget cannot carry is
    left out, with the number; the budget is held against making alone.

    An explicit ladder is put into the order of cost, too. The plan may have no rung at all: then ``left_out`` says why.
    """
    return ordered(drafted(inputs), inputs.objective)


def drafted(inputs: PlanInputs) -> Plan:
    """The plan with its rungs in the order of what making them takes."""
    rungs: list[RungPlan] = []
    left_out: list[Refusal] = []
    for rung in _wanted(inputs):
        refused = _needless(inputs, rung) or refusal(inputs, rung)
        if refused is None:
            rungs.append(rung)
        else:
            left_out.append(refused)
    return Plan(
        objective=inputs.objective_digest,
        snapshot=inputs.snapshot,
        base_model=inputs.base.digest,
        machine=inputs.machine,
        rungs=tuple(rungs),
        left_out=tuple(left_out),
        dev_power=inputs.dev_power,
        test_power=inputs.test_power,
        shift=inputs.shift,
        exceptions=inputs.objective.exceptions,
        tokens=inputs.tokens,
        prices=inputs.prices,
        calibrations=tuple(digest_of(one) for one in inputs.calibrations),
        floor=planned_floor(inputs) if inputs.objective.task.kind is TaskKind.CLASSIFY else None,
        comparison=inputs.comparison,
        memory_limit_gb=round(limit_of(inputs.objective.budget, inputs.machine), 2),
    )


#: What makes a rung's plans, in the order of what making them takes.
_MAKERS: tuple[tuple[RungKind, Callable[[PlanInputs], RungPlan]], ...] = (
    (RungKind.PROMPT, zero_shot),
    (RungKind.PROMPT, few_shot),
    (RungKind.NEAREST, nearest),
    (RungKind.GROUNDING, grounding),
    (RungKind.LORA, lora),
    (RungKind.QLORA, qlora),
    (RungKind.GROUNDED_LORA, grounded_lora),
    (RungKind.LORA, larger_lora),
    (RungKind.FULL, full),
)


def _wanted(inputs: PlanInputs) -> list[RungPlan]:
    order, asked = _order(inputs), inputs.objective.ladder
    if inputs.objective.task.kind is TaskKind.RANK:
        return [_led_by(order, rung) for rung in ranking_rungs(inputs) if asked == "auto" or rung.rung in asked]
    makers = [(kind, make) for kind, make in _MAKERS if asked == "auto" or kind in asked]
    return [_led_by(order, make(inputs)) for kind, make in makers if not _left_aside(inputs, kind, make)]


def _left_aside(inputs: PlanInputs, kind: RungKind, make: Callable[[PlanInputs], RungPlan]) -> bool:
    """Passages without documents; a larger adapter where the objective lists rungs or says the rank, or the first one is the largest."""
    if kind in (RungKind.GROUNDING, RungKind.GROUNDED_LORA) and not inputs.documents and inputs.objective.ladder == "auto":
        return True
    if make is not larger_lora:
        return False
    return inputs.objective.ladder != "auto" or inputs.objective.lora.rank != "auto" or rank(inputs)[0] == RANKS[-1]


def _needless(inputs: PlanInputs, rung: RungPlan) -> Refusal | None:
    """QLoRA stands in for a LoRA that the memory does not hold; otherwise it is left out, unless it was asked for.

    What else stands in the way of LoRA stands in its way too.
    """
    if rung.rung is not RungKind.QLORA or inputs.objective.ladder != "auto" or too_large(inputs, smaller := lora(inputs)):
        return None
    refused = refusal(inputs, smaller)
    reason = refused.reason if refused else f"{rung.variant}: lora fits the memory, and qlora is no better, only smaller and slower"
    return Refusal(rung=rung.rung, reason=reason)


def _led_by(reason: Reason, rung: RungPlan) -> RungPlan:
    return rung.model_copy(update={"reasons": (reason, *rung.reasons)})


def _order(inputs: PlanInputs) -> Reason:
    asked, traffic = inputs.objective.ladder, inputs.objective.expected_traffic
    assumed = "" if inputs.objective.traffic else " (assumed: the objective names no `traffic`)"
    counted = f"making and {traffic.requests:,.0f} requests together{assumed}"
    if asked == "auto":
        text = f"rungs are climbed from the cheapest, {counted}; the climb stops on the first that passes"
    else:
        kinds = ", ".join(kind.value for kind in asked)
        text = f"the objective asks for {kinds}: all are tried, in the order of what they cost, {counted}"
    return Reason(rule="order", text=text, source="docs/concepts.md")
