"""Feasibility of a rung within this machine and budget, and what-if machines to plan for instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Estimate, Machine, Prices, RungPlan, amount
from tailorbird.domain.value import Value
from tailorbird.planning.hosted_model import why_not_hosted, why_not_proposed
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.model_fit import Gpu, gpu_machine, gpu_named, limit_of, suggest_machine, suggest_trainer
from tailorbird.planning.setting_rules import longest_prompt


class MachineChange(Value):
    """Changes of a what-if plan. ``memory`` in GiB, ``budget`` in the objective's currency, ``price`` an hour of the machine, ``traffic``
    in requests a month."""

    memory: Annotated[float, Field(gt=0, le=10**6)] | None = None
    gpu: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    cores: Annotated[int, Field(ge=1, le=10_000)] | None = None
    budget: Annotated[float, Field(ge=0, le=1e12)] | None = None
    hours: Annotated[float, Field(gt=0, le=1e6)] | None = None
    price: Annotated[float, Field(ge=0, le=1e6)] | None = None
    traffic: Annotated[int, Field(ge=0, le=10**12)] | None = None


def with_machine_change(inputs: PlanInputs, change: MachineChange) -> PlanInputs:
    """``inputs`` with another machine, budget or traffic. What was timed here says nothing about another processor. Raises InvalidInput."""
    budget = inputs.objective.budget
    wanted = {"money": change.budget, "hours": change.hours}
    update: dict[str, object] = {"budget": budget.model_copy(update={name: value for name, value in wanted.items() if value is not None})}
    if change.traffic is not None:
        update["traffic"] = inputs.objective.expected_traffic.model_copy(update={"per_month": change.traffic})
    objective = inputs.objective.model_copy(update=update)
    elsewhere = change.gpu is not None or change.cores is not None
    gpu = gpu_named(change.gpu) if change.gpu else None
    return replace(
        inputs,
        objective=objective,
        machine=_machine(inputs.machine, change, gpu),
        prices=_prices(inputs, change, gpu),
        calibrations=() if elsewhere else inputs.calibrations,
    )


def _machine(here: Machine, change: MachineChange, gpu: Gpu | None) -> Machine:
    if gpu is not None:
        given = {"memory_gb": change.memory, "cores": change.cores, "threads": change.cores}
        return gpu_machine(here, gpu).model_copy(update={name: value for name, value in given.items() if value is not None})
    scale = (change.cores or here.cores) / here.cores
    return here.model_copy(
        update={
            "cores": change.cores or here.cores,
            "threads": change.cores or here.threads,
            "memory_gb": change.memory or here.memory_gb,
            "fp32_gflops": here.fp32_gflops * scale,
            "bf16_gflops": here.bf16_gflops * scale,
        }
    )


def _prices(inputs: PlanInputs, change: MachineChange, gpu: Gpu | None) -> Prices:
    prices = inputs.prices
    if gpu is not None:
        prices = prices.model_copy(update={"per_hour": gpu.per_hour, "watts": gpu.watts})
    return prices if change.price is None else prices.model_copy(update={"per_hour": change.price})


#: Rungs that show something beside the text.
_SHOWING = (RungKind.PROMPT, RungKind.HOSTED, RungKind.NEAREST, RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def refusal(inputs: PlanInputs, rung: RungPlan) -> Refusal | None:
    """Reason to leave the rung out; None when it is feasible. The likely estimate decides, not the worst one."""
    checks = (
        _not_hosted,
        _nothing_to_adapt,
        _unknown_target,
        _without_training,
        _without_four_bits,
        _too_long,
        _without_demonstrations,
        too_large,
        _too_slow,
        _too_dear,
    )
    reason = next((reason for check in checks if (reason := check(inputs, rung))), None)
    return Refusal(rung=rung.rung, variant=rung.variant, reason=reason) if reason else None


def _not_hosted(inputs: PlanInputs, rung: RungPlan) -> str | None:
    if rung.rung is RungKind.PROMPT_SEARCH:
        return why_not_proposed(inputs)
    if rung.rung is not RungKind.HOSTED:
        return None
    return why_not_hosted(inputs) or (why_not_proposed(inputs) if rung.calls else None)


def _nothing_to_adapt(inputs: PlanInputs, rung: RungPlan) -> str | None:
    if inputs.base.linear_shapes or rung.training is None or rung.training.lora is None:
        return None
    kind = f" ({inputs.base.anatomy.model_type})" if inputs.base.anatomy else ""
    return f"{inputs.base.name}{kind} has no linear layers on which an adapter is placed: full fine-tuning trains all of its weights"


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
    if inputs.objective.task.kind is TaskKind.RANK or rung.rung in (RungKind.ENCODER, RungKind.HOSTED):
        return None  # an encoder reads the beginning of a long text; a hosted model says itself what is too long
    longest = rung.training.max_length if rung.training else longest_prompt(inputs) + inputs.tokens.target_max
    if longest <= inputs.base.context:
        return None
    return f"the longest row needs {longest} tokens and {inputs.base.name} reads {inputs.base.context}"


def _without_demonstrations(_: PlanInputs, rung: RungPlan) -> str | None:
    if rung.shots or rung.calls or rung.rung not in _SHOWING or rung.variant == "zero-shot":
        return None
    if rung.grounded or rung.rung in (RungKind.GROUNDING, RungKind.GROUNDED_LORA):
        return "the objective names no documents (documents:), or no passage fits into the context"
    return "no demonstration fits into the context"


def too_large(inputs: PlanInputs, rung: RungPlan) -> str | None:
    """Why the memory of the machine, or what the budget leaves of it, does not hold the rung."""
    limit = limit_of(inputs.objective.budget, inputs.machine)
    if rung.memory.likely <= limit:
        return None
    trains = rung.training if rung.trains_base and inputs.objective.task.kind is not TaskKind.RANK else None
    advice = suggest_trainer(inputs, trains, rung.memory.high) if trains else suggest_machine(rung.memory.high)
    return f"needs about {rung.memory.likely:.1f} GiB of memory and may take {limit:.1f}: {advice}"


def _least(inputs: PlanInputs, rung: RungPlan, estimate: Estimate) -> float:
    """What a rung is left out by: the likely value, and the low end where other processes wanted the cores while the machine was timed."""
    timed = inputs.timed(rung.training) if rung.training and rung.rung is not RungKind.ENCODER else None
    loaded = timed.loaded if timed else inputs.machine.loaded
    return estimate.low if loaded else estimate.likely


def _too_slow(inputs: PlanInputs, rung: RungPlan) -> str | None:
    hours = _least(inputs, rung, rung.time) / 3600
    if hours <= inputs.objective.budget.hours:
        return None
    return f"needs about {amount(hours)} h and the budget is {inputs.objective.budget.hours:g} h"


def _too_dear(inputs: PlanInputs, rung: RungPlan) -> str | None:
    budget, money = inputs.objective.budget, _least(inputs, rung, rung.money)
    if money <= budget.money:
        return None
    return f"costs about {amount(money)} {rung.money.unit} and the budget is {budget.money:g} {budget.currency}"
