"""Plan of one rung: settings, estimates, and the reason of each choice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Estimate, LoraSettings, Reason, RungPlan, TrainingSettings
from tailorbird.planning import setting_rules
from tailorbird.planning.floor import read_tokens
from tailorbird.planning.flops import adapter_parameters, backbone_parameters, steps_per_pass, training_flops
from tailorbird.planning.hosted_model import with_proposer
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.lookup_cost import by_ranker, with_index
from tailorbird.planning.memory import grown_memory, prompt_memory
from tailorbird.planning.model_fit import fitted, limit_of, needed_memory
from tailorbird.planning.time_and_cost import (
    energy_estimate,
    loop_time,
    money_estimate,
    prompt_time,
    search_time,
    serving_estimate,
    training_time,
)
from tailorbird.planning.traffic_cost import around


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
    adapter = LoraSettings(rank=rank, alpha=alpha, targets=targets, rslora=wishes.rslora, dora=wishes.dora, b_rate=wishes.b_rate)
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
