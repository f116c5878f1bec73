"""Whether this machine and this budget can carry a rung."""

from __future__ import annotations

from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import Budget, TaskKind
from tailorbird.domain.plan import Estimate, Machine, RungPlan
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.setting_rules import longest_prompt
from tailorbird.planning.what_if_machine import FREE, would_do

#: Rungs that show something beside the text.
_SHOWING = (RungKind.PROMPT, RungKind.NEAREST, RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def refusal(inputs: PlanInputs, rung: RungPlan) -> Refusal | None:
    """Why the rung is left out; None when it can be tried. The likely estimate decides, not the worst one."""
    checks = (_unknown_target, _without_training, _without_four_bits, _too_long, _without_demonstrations, too_large, _too_slow, _too_dear)
    reason = next((reason for check in checks if (reason := check(inputs, rung))), None)
    return Refusal(rung=rung.rung, reason=f"{rung.variant}: {reason}") if reason else None


def _unknown_target(inputs: PlanInputs, rung: RungPlan) -> str | None:
    adapter = rung.training.lora if rung.training else None
    unknown = next((name for name in adapter.targets if name not in inputs.base.linear_shapes), None) if adapter else None
    return f"{inputs.base.name} has no linear layer {unknown}, but {', '.join(inputs.base.linear_shapes)}" if unknown else None


def _without_training(inputs: PlanInputs, rung: RungPlan) -> str | None:
    if rung.training is None or inputs.machine.training:
        return None
    return "training is not installed here (pip install 'tailorbird[local]')"


def _without_four_bits(inputs: PlanInputs, rung: RungPlan) -> str | None:
    if rung.rung is not RungKind.QLORA or inputs.machine.four_bit:
        return None
    return "weights in 4 bits need the package bitsandbytes (pip install 'tailorbird[local]')"


def _too_long(inputs: PlanInputs, rung: RungPlan) -> str | None:
    if inputs.objective.task.kind is TaskKind.RANK:
        return None  # an encoder reads the beginning of a long document
    longest = rung.training.max_length if rung.training else longest_prompt(inputs) + inputs.tokens.target_max
    if longest <= inputs.base.context:
        return None
    return f"the longest row needs {longest} tokens and {inputs.base.name} reads {inputs.base.context}"


def _without_demonstrations(_: PlanInputs, rung: RungPlan) -> str | None:
    if rung.shots or rung.rung not in _SHOWING or rung.variant == "zero-shot":
        return None
    if rung.rung in (RungKind.GROUNDING, RungKind.GROUNDED_LORA):
        return "the objective names no documents (documents:), or no passage fits into the context"
    return "no demonstration fits into the context"


def too_large(inputs: PlanInputs, rung: RungPlan) -> str | None:
    """Why the memory of the machine, or what the budget leaves of it, does not hold the rung."""
    limit = limit_of(inputs.objective.budget, inputs.machine)
    if rung.memory.likely <= limit:
        return None
    return f"needs about {rung.memory.likely:.1f} GiB of memory and may take {limit:.1f}: {would_do(rung.memory.high)}"


def limit_of(budget: Budget, machine: Machine) -> float:
    """GiB that one process may take: what the budget says, and never more than the machine leaves it."""
    free = FREE * machine.memory_gb
    return free if budget.memory_gb == "auto" else min(budget.memory_gb, free)


def _least(inputs: PlanInputs, rung: RungPlan, estimate: Estimate) -> float:
    """What a rung is left out by: the likely value, and the low end where other processes wanted the cores while the machine was timed."""
    timed = inputs.timed(rung.training) if rung.training else None
    loaded = timed.loaded if timed else inputs.machine.loaded
    return estimate.low if loaded else estimate.likely


def _too_slow(inputs: PlanInputs, rung: RungPlan) -> str | None:
    hours = _least(inputs, rung, rung.time) / 3600
    if hours <= inputs.objective.budget.hours:
        return None
    return f"needs about {hours:.2f} h and the budget is {inputs.objective.budget.hours:g} h"


def _too_dear(inputs: PlanInputs, rung: RungPlan) -> str | None:
    budget, money = inputs.objective.budget, _least(inputs, rung, rung.money)
    if money <= budget.money:
        return None
    return f"costs about {money:.2f} {rung.money.unit} and the budget is {budget.money:g} {budget.currency}"
