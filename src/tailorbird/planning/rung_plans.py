"""Plan of one rung: settings, estimates, and the reason of each choice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Estimate, LoraSettings, Machine, Prices, Reason, RungPlan, TrainingSettings, amount
from tailorbird.domain.value import Value
from tailorbird.planning import setting_rules
from tailorbird.planning.floor import read_tokens
from tailorbird.planning.flops import adapter_parameters, backbone_parameters, steps_per_pass, training_flops
from tailorbird.planning.hosted_model import why_not_hosted, why_not_proposed, with_proposer
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.lookup_cost import by_ranker, with_index
from tailorbird.planning.memory import grown_memory, prompt_memory
from tailorbird.planning.model_fit import Gpu, fitted, gpu_machine, gpu_named, limit_of, needed_memory, suggest_machine, suggest_trainer
from tailorbird.planning.setting_rules import longest_prompt
from tailorbird.planning.time_and_cost import (
    around,
    energy_estimate,
    loop_time,
    money_estimate,
    prompt_time,
    search_time,
    serving_estimate,
    training_time,
)


def zero_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction alone, with its labels listed."""
    listed = "the instruction and its labels" if inputs.objective.task.kind is TaskKind.CLASSIFY else "the instruction alone"
    reason = Reason(rule="zero-shot", text=f"{listed}: nothing is trained and nothing shown", source="docs/concepts.md")
    return _prompting(inputs, "zero-shot", 0, reason)


def few_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction with training rows as demonstrations."""
    shots, reason = setting_rules.shots(inputs)
    return _prompting(inputs, "few-shot", shots, reason)


def prompt_search(inputs: PlanInputs) -> RungPlan:
    """Instruction and demonstrations searched on rows held out of train."""
    calls, shots, reason = setting_rules.prompt_search(inputs)
    time = search_time(inputs, shots, calls)
    costs = {"time": time, "money": money_estimate(inputs, time), "energy": energy_estimate(inputs, time)}
    planned = _prompting(inputs, f"{calls} calls", shots, reason)
    return with_proposer(inputs, planned.model_copy(update={"rung": RungKind.PROMPT_SEARCH, "calls": calls} | costs))


def nearest(inputs: PlanInputs) -> RungPlan:
    """For each text the training rows most like it."""
    shots, reason = setting_rules.nearest(inputs)
    planned = _looking_up(inputs, shots, setting_rules.ways(inputs), shots * setting_rules.demonstration_tokens(inputs), reason)
    planned = planned.model_copy(update={"rung": RungKind.NEAREST, "encoder": inputs.encoder_tree})
    weights = backbone_parameters(inputs.encoder) if inputs.encoder else 0
    return with_index(inputs, planned, weights, inputs.train_rows * read_tokens(inputs))


def grounding(inputs: PlanInputs) -> RungPlan:
    """For each text the passages of the tenant's documents most like it."""
    shots, reason = setting_rules.passages(inputs)
    planned = _looking_up(inputs, shots, setting_rules.finder(inputs), shots * setting_rules.PASSAGE_TOKENS, reason)
    return by_ranker(inputs, planned.model_copy(update={"rung": RungKind.GROUNDING}), inputs.dev_rows)


def rewritten_grounding(inputs: PlanInputs) -> RungPlan:
    """The same, of a conversation found by its last message as the base model rewrites it: one more answer a request, priced as such."""
    more, reason = setting_rules.rewriting(inputs)
    planned = grounding(replace(inputs, tokens=more))
    update = {"variant": f"{planned.variant}, query rewritten", "rewrite": True, "reasons": (*planned.reasons, reason)}
    return planned.model_copy(update=update)


def grounded_lora(inputs: PlanInputs) -> RungPlan:
    """An adapter that learns to use the passages."""
    shots, reason = setting_rules.passages(inputs)
    planned = _adapter(replace(inputs, tokens=setting_rules.with_passages(inputs, shots)), "lora", (reason,))
    shown = f"{planned.variant}, {shots} passages by {setting_rules.finder(inputs)}"
    update = {"rung": RungKind.GROUNDED_LORA, "variant": shown, "shots": shots}
    return by_ranker(inputs, planned.model_copy(update=update), inputs.train_rows + inputs.dev_rows)


def larger_lora(inputs: PlanInputs) -> RungPlan:
    """An adapter of the largest rank that engines serve, where a smaller one was planned first."""
    most = inputs.objective.lora.model_copy(update={"rank": setting_rules.RANKS[-1]})
    objective = inputs.objective.model_copy(update={"lora": most})
    planned = _adapter(replace(inputs, objective=objective), "lora", ())
    return planned.model_copy(update={"reasons": (setting_rules.more_capacity(inputs), *planned.reasons[1:])})


def lora(inputs: PlanInputs) -> RungPlan:
    """An adapter on all linear layers."""
    return _adapter(inputs, "lora", ())


def qlora(inputs: PlanInputs) -> RungPlan:
    """The same adapter on weights in 4 bits."""
    return _adapter(inputs, "qlora", (setting_rules.four_bits(inputs),))


def _adapter(inputs: PlanInputs, method: Literal["lora", "qlora"], before: tuple[Reason, ...]) -> RungPlan:
    rank, capacity = setting_rules.rank(inputs)
    targets, everywhere = setting_rules.targets(inputs)
    alpha, scaling = setting_rules.alpha(inputs)
    wishes = inputs.objective.lora
    adapter = LoraSettings(rank=rank, alpha=alpha, targets=targets, rslora=wishes.rslora, b_rate=wishes.b_rate)
    settings, reasons = _settings(inputs, method, adapter)
    return _training(inputs, f"r{rank}", settings, (*before, capacity, everywhere, scaling, *setting_rules.options(inputs), *reasons))


def full(inputs: PlanInputs) -> RungPlan:
    """All weights."""
    settings, reasons = _settings(inputs, "full", None)
    return _training(inputs, "all weights", settings, (setting_rules.full_capacity(inputs), *reasons))


def _prompting(inputs: PlanInputs, variant: str, shots: int, reason: Reason) -> RungPlan:
    time = prompt_time(inputs, shots)
    return RungPlan(
        rung=RungKind.PROMPT,
        variant=variant,
        training=None,
        shots=shots,
        time=time,
        memory=prompt_memory(inputs, shots),
        money=money_estimate(inputs, time),
        energy=energy_estimate(inputs, time),
        serving_cost=serving_estimate(inputs, shots),
        reasons=(reason,),
    )


def _looking_up(inputs: PlanInputs, entries: int, by: str, tokens: float, reason: Reason) -> RungPlan:
    """A prompt into which ``entries`` of ``tokens`` in all are looked up for each text."""
    time = prompt_time(inputs, 0, tokens)
    update = {"shots": entries, "time": time, "serving_cost": serving_estimate(inputs, 0, tokens)}
    costs = {"money": money_estimate(inputs, time), "energy": energy_estimate(inputs, time), "memory": prompt_memory(inputs, entries)}
    return _prompting(inputs, f"{entries} by {by}", 0, reason).model_copy(update=update | costs)


def _training(inputs: PlanInputs, variant: str, settings: TrainingSettings, reasons: tuple[Reason, ...]) -> RungPlan:
    time = training_time(inputs, settings)
    waiting, patience = setting_rules.waiting_epochs(inputs, settings, _room(inputs, time))
    settings = settings.model_copy(update={"waiting_epochs": waiting})
    adapter, timed = settings.lora, inputs.timed(settings)
    return RungPlan(
        rung=RungKind(settings.method),
        variant=variant,
        training=settings,
        trained_parameters=adapter_parameters(inputs.base, adapter) if adapter else inputs.base.parameters,
        time=time,
        memory=needed_memory(inputs, settings),
        money=money_estimate(inputs, time),
        flops=around(training_flops(inputs, settings), (0.8, 1.25), "FLOP"),
        energy=energy_estimate(inputs, time),
        serving_cost=serving_estimate(inputs, 0),
        training_time=loop_time(inputs, settings),
        training_memory=grown_memory(inputs, settings),
        calibrated=timed.measured_at.date().isoformat() + (" beside other work" if timed.loaded else "") if timed else "",
        reasons=(*reasons, patience),
    )


def _room(inputs: PlanInputs, time: Estimate) -> float:
    """How many times the likely time and money of a rung the budget holds."""
    budget, money = inputs.objective.budget, money_estimate(inputs, time).likely
    return min(3600 * budget.hours / time.likely, budget.money / money if money else math.inf)


def _settings(
    inputs: PlanInputs, method: setting_rules.Method, adapter: LoraSettings | None
) -> tuple[TrainingSettings, tuple[Reason, ...]]:
    batch, batch_reason = setting_rules.batch_size()
    epochs, epochs_reason = setting_rules.epochs(inputs, method, batch)
    steps = epochs * steps_per_pass(inputs.train_rows, batch)
    rate, rate_reason = setting_rules.learning_rate(inputs, method, steps)
    length, length_reason = setting_rules.max_length(inputs)
    budget, budget_reason = setting_rules.token_budget(inputs, length)
    precision, precision_reason = setting_rules.precision(inputs)
    settings = TrainingSettings(
        method=method,
        lora=adapter,
        learning_rate=rate,
        epochs=epochs,
        batch_size=batch,
        token_budget=budget,
        max_length=length,
        warmup=setting_rules.WARMUP,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=setting_rules.looks_per_epoch(epochs),
        precision=precision,
        seed=inputs.objective.seed,
        threads=inputs.machine.threads,
    )
    settings = fitted(inputs, settings, limit_of(inputs.objective.budget, inputs.machine))
    if settings.token_budget < budget:
        budget_reason = setting_rules.smaller_passes(settings.token_budget)
    return settings, (rate_reason, batch_reason, epochs_reason, length_reason, budget_reason, precision_reason)


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
