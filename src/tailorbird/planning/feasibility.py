"""Feasibility of a rung within this machine and budget, and what-if machines to plan for instead.

Rates are the makers' dense figures for bf16 (fp16 where there is no bf16) and fp32 in TFLOP/s, power theirs in watts, memory in GiB. Prices
are round numbers for an hour, to be replaced by one's own: ``price=``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import Budget, TaskKind
from tailorbird.domain.plan import Estimate, Machine, Prices, RungPlan
from tailorbird.domain.value import Value
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.setting_rules import longest_prompt
from tailorbird.text.normalisation import nearest


@dataclass(frozen=True)
class _Gpu:
    title: str
    memory_gb: float
    bf16: float
    fp32: float
    watts: float
    per_hour: float


GPUS = {
    "t4": _Gpu("NVIDIA T4", 15, 65, 8.1, 70, 0.4),
    "l4": _Gpu("NVIDIA L4", 22.5, 121, 30.3, 72, 0.7),
    "a10": _Gpu("NVIDIA A10", 22.5, 125, 31.2, 150, 1.0),
    "rtx4090": _Gpu("NVIDIA RTX 4090", 24, 165, 82.6, 450, 0.6),
    "l40s": _Gpu("NVIDIA L40S", 44, 362, 91.6, 350, 1.6),
    "a100": _Gpu("NVIDIA A100 80 GB", 79, 312, 19.5, 400, 2.0),
    "h100": _Gpu("NVIDIA H100 SXM", 79, 989, 67, 700, 3.5),
    "h200": _Gpu("NVIDIA H200 SXM", 140, 989, 67, 700, 4.5),
}


#: Share of a machine's memory that one process may take when the budget says ``auto``.
FREE = 0.9


def suggest_machine(memory_gb: float) -> str:
    """Machine on which a process of ``memory_gb`` GiB fits, as text: its memory, and the smallest GPU that has as much."""
    needed = memory_gb / FREE
    fitting = min((gpu for gpu in GPUS.values() if gpu.memory_gb >= needed), key=lambda gpu: gpu.memory_gb, default=None)
    card = f" (one {fitting.title} has {fitting.memory_gb:g})" if fitting else ""
    return f"use a machine with {needed:.0f} GiB{card}"


class MachineChange(Value):
    """Changes of a what-if plan. ``memory`` in GiB, ``budget`` in the objective's currency, ``price`` an hour of the machine, ``traffic``
    in requests a month."""

    memory: Annotated[float, Field(gt=0)] | None = None
    gpu: str | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    budget: Annotated[float, Field(ge=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None
    price: Annotated[float, Field(ge=0)] | None = None
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
    gpu = _gpu(change.gpu) if change.gpu else None
    return replace(
        inputs,
        objective=objective,
        machine=_machine(inputs.machine, change, gpu),
        prices=_prices(inputs, change, gpu),
        calibrations=() if elsewhere else inputs.calibrations,
    )


def _gpu(name: str) -> _Gpu:
    if name.lower() not in GPUS:
        near = nearest(name.lower(), GPUS)
        guess = f"did you mean {near}? " if near else ""
        raise InvalidInput(f"no GPU is known as {name!r}", f"{guess}known: {', '.join(GPUS)}", code="gpu_unknown", param="gpu")
    return GPUS[name.lower()]


def _machine(here: Machine, change: MachineChange, gpu: _Gpu | None) -> Machine:
    if gpu is not None:
        memory = change.memory or gpu.memory_gb
        return here.model_copy(
            update={
                "gpus": (gpu.title,),
                "memory_gb": memory,
                "bf16_gflops": 1000 * gpu.bf16,
                "fp32_gflops": 1000 * gpu.fp32,
                "threads": 0,
            }
        )
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


def _prices(inputs: PlanInputs, change: MachineChange, gpu: _Gpu | None) -> Prices:
    prices = inputs.prices
    if gpu is not None:
        prices = prices.model_copy(update={"per_hour": gpu.per_hour, "watts": gpu.watts})
    return prices if change.price is None else prices.model_copy(update={"per_hour": change.price})


#: Rungs that show something beside the text.
_SHOWING = (RungKind.PROMPT, RungKind.NEAREST, RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def refusal(inputs: PlanInputs, rung: RungPlan) -> Refusal | None:
    """Reason to leave the rung out; None when it is feasible. The likely estimate decides, not the worst one."""
    checks = (
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
    return Refusal(rung=rung.rung, reason=f"{rung.variant}: {reason}") if reason else None


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
    return f"needs about {rung.memory.likely:.1f} GiB of memory and may take {limit:.1f}: {suggest_machine(rung.memory.high)}"


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
