"""Plans that ask an endpoint: time and money of the hosted rung, and what an endpoint cannot do.

Plan of one rung: settings, estimates, and the reason of each choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.evidence import MOST_FURTHER_REQUESTS
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import HostedVariant, Objective, TaskKind
from tailorbird.domain.plan import Estimate, LoraSettings, Reason, RungPlan, TrainingSettings, amount
from tailorbird.planning import setting_rules
from tailorbird.planning.estimates import (
    PROCESS_GIB,
    SEARCHED_PROMPTS,
    START_SECONDS,
    TIMED_ROWS,
    adapter_parameters,
    around,
    backbone_parameters,
    by_ranker,
    costs_of,
    energy_estimate,
    grown_memory,
    interval,
    limit_of,
    loop_time,
    money_estimate,
    prompt_memory,
    prompt_time,
    scoring_seconds,
    serving_estimate,
    steps_per_pass,
    suggest_machine,
    total,
    training_memory,
    training_time,
    with_index,
)
from tailorbird.planning.floor import read_tokens
from tailorbird.planning.inputs import PASSAGE_TOKENS, PlanInputs, demonstration_tokens
from tailorbird.planning.setting_rules import longest_prompt

#: Seconds of one answer over the internet: at best, usually, at worst. Assumed, not measured.
ANSWER_SECONDS = (0.2, 1.0, 5.0)
#: Requests under way at once, beside those that are timed one by one.
_AT_ONCE = 4
#: Its tokenizer is not ours: its count lies within these factors of it.
_TOKENS = (0.7, 1.5)
#: GiB of the process that asks.
_MEMORY = 0.3


@dataclass(frozen=True)
class _HostedPrompt:
    """How the hosted model is asked: what stands before every text, ``shots`` of it, ``tokens`` in all."""

    variant: HostedVariant
    what: str
    shots: int = 0
    tokens: float = 0.0


def hosted_zero_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction alone, answered by the hosted model."""
    return _asking(inputs, _HostedPrompt("zero-shot", "the instruction alone"))


def hosted_few_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction with training rows as demonstrations."""
    shots, _ = setting_rules.shots(inputs)
    what, tokens = f"the instruction with {shots} training rows as demonstrations", shots * demonstration_tokens(inputs)
    return _asking(inputs, _HostedPrompt("few-shot", what, shots, tokens))


def hosted_grounded(inputs: PlanInputs) -> RungPlan:
    """For each text the passages of the tenant's documents most like it, which the hosted model is shown."""
    count, reason = setting_rules.passages(inputs)
    planned = _asking(inputs, _HostedPrompt("grounded", f"the instruction with {count} passages", count, count * PASSAGE_TOKENS))
    update = {"grounded": True, "reasons": (*planned.reasons, reason)}
    return by_ranker(inputs, planned.model_copy(update=update), inputs.dev_rows)


def is_wanted(objective: Objective, variant: HostedVariant) -> bool:
    """True where the objective asks for the variant of the hosted model; by default those of which the ladder tries the like with the
    base model, and zero-shot and few-shot in any case."""
    wished = objective.hosted.variants if objective.hosted else "auto"
    if wished != "auto":
        return variant in wished
    if variant != "grounded":
        return True
    return bool(objective.documents) if objective.ladder == "auto" else RungKind.GROUNDING in objective.ladder


def why_not_hosted(inputs: PlanInputs) -> str | None:
    """Reason why the endpoint of the objective cannot be a rung of it; None where it can."""
    objective, endpoint = inputs.objective, inputs.endpoint
    if endpoint is None:
        return "the objective names no endpoint (hosted:)"
    if (other := _other_currency(inputs, endpoint)) is not None:
        return other
    if objective.task.thinking:
        return "a hosted model is not asked to reason first (task.thinking)"
    needs = sorted({kpi.metric for kpi in objective.kpis} & {"log_loss", "brier", "ece"})
    if needs:
        return f"a hosted model gives no probabilities, which {' and '.join(needs)} rest on"
    if objective.task.kind is TaskKind.CLASSIFY and objective.referral is not None:
        return "a hosted model gives no probabilities, by which answers are referred to people"
    if objective.task.out_of_scope is not None:
        return "a hosted model gives no scores, by which requests out of scope are refused"
    return None


def _other_currency(inputs: PlanInputs, endpoint: Endpoint) -> str | None:
    paid, here, budget = endpoint.currency, inputs.prices.currency, inputs.objective.budget.currency
    if paid != here:
        return f"{endpoint.name} is paid in {paid} and this machine in {here}: the two cannot be compared"
    if paid != budget:
        return f"{endpoint.name} is paid in {paid} and the budget is in {budget}: it could not be kept"
    return None


def _asking(inputs: PlanInputs, asked: _HostedPrompt) -> RungPlan:
    endpoint, wishes = inputs.endpoint, inputs.objective.hosted
    model = wishes.model if wishes else "a model"
    requests = inputs.dev_rows + 1
    alone = min(inputs.dev_rows, TIMED_ROWS)
    # Requests beyond the items until limits on what answering takes are settled, of texts of train: at best, usually (one more
    # look), at worst; and how many of them are under way at once.
    latency, cost = inputs.objective.limits.latency_p95_ms, inputs.objective.limits.cost_per_1k_requests
    most = min(inputs.train_rows, MOST_FURTHER_REQUESTS) if latency or cost else 0
    further, at_once = (0, min(most, TIMED_ROWS), most), latency.at_concurrency if latency else 1
    seconds = [alone + (requests - alone) / _AT_ONCE + more / at_once for more in further]
    time = interval([each * amount for each, amount in zip(ANSWER_SECONDS, seconds, strict=True)], "s")
    paid = [_paid(inputs, endpoint, asked.tokens, requests + more) for more in further]
    money = interval((paid[0].low, paid[1].likely, paid[2].high), paid[0].unit)
    name, region = (endpoint.name, endpoint.region) if endpoint else ("an endpoint", "nobody knows where")
    train = " and train" if asked.variant == "few-shot" or further[-1] else ""
    passages = " and passages" if asked.variant == "grounded" else ""
    text = f"{model} at {name}, {asked.what}: rows of dev{train}{passages} leave the house, to {region}"
    return RungPlan(
        rung=RungKind.HOSTED,
        variant=asked.variant,
        training=None,
        shots=asked.shots,
        time=time,
        memory=around(PROCESS_GIB + _MEMORY, (0.7, 1.5), "GiB"),
        money=total(money_estimate(inputs, time), money),
        energy=energy_estimate(inputs, time),
        serving_cost=_paid(inputs, endpoint, asked.tokens, 1000),
        endpoint=endpoint,
        reasons=(Reason(rule="hosted", text=text, source="docs/reference/rungs.md"),),
    )


def _paid(inputs: PlanInputs, endpoint: Endpoint | None, shown: float, requests: float) -> Estimate:
    """What so many requests cost at the prices of the endpoint, with ``shown`` tokens before each text."""
    tokens = inputs.tokens
    listed = tokens.label_list if inputs.objective.task.kind is TaskKind.CLASSIFY else 0
    read = tokens.prompt_mean + listed + shown
    cost = endpoint.cost(requests * read, requests * tokens.target_mean) if endpoint else 0.0
    return around(cost, _TOKENS, inputs.prices.currency)


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
    """Demonstrations searched on rows held out of train."""
    calls, shots, reason = setting_rules.prompt_search(inputs)
    # Seconds of a prompt's search with so many ``calls``, and to measure what it found on dev. Thresholds are chosen by
    # answers that it has.
    searched = scoring_seconds(inputs, shots, calls, prompts=SEARCHED_PROMPTS)
    seconds = zip(START_SECONDS, searched, scoring_seconds(inputs, shots, inputs.dev_rows), strict=True)
    costs = costs_of(inputs, interval([sum(each) for each in seconds], "s"))
    planned = _prompting(inputs, f"{calls} calls", shots, reason)
    return planned.model_copy(update={"rung": RungKind.PROMPT_SEARCH, "calls": calls} | costs)


def nearest(inputs: PlanInputs) -> RungPlan:
    """For each text the training rows most like it."""
    shots, reason = setting_rules.nearest(inputs)
    planned = _looking_up(inputs, shots, setting_rules.ways(inputs), shots * demonstration_tokens(inputs), reason)
    planned = planned.model_copy(update={"rung": RungKind.NEAREST, "encoder": inputs.encoder_tree})
    weights = backbone_parameters(inputs.encoder) if inputs.encoder else 0
    return with_index(inputs, planned, weights, inputs.train_rows * read_tokens(inputs))


def grounding(inputs: PlanInputs) -> RungPlan:
    """For each text the passages of the tenant's documents most like it."""
    shots, reason = setting_rules.passages(inputs)
    planned = _looking_up(inputs, shots, setting_rules.finder(inputs), shots * PASSAGE_TOKENS, reason)
    return by_ranker(inputs, planned.model_copy(update={"rung": RungKind.GROUNDING}), inputs.dev_rows)


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
    adapter = LoraSettings(rank=rank, alpha=alpha, targets=targets, rslora=inputs.objective.lora.rslora)
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
        memory=prompt_memory(inputs, shots),
        **costs_of(inputs, time),
        serving_cost=serving_estimate(inputs, shots),
        reasons=(reason,),
    )


def _looking_up(inputs: PlanInputs, entries: int, by: str, tokens: float, reason: Reason) -> RungPlan:
    """A prompt into which ``entries`` of ``tokens`` in all are looked up for each text."""
    time = prompt_time(inputs, 0, tokens)
    update = {"shots": entries, "serving_cost": serving_estimate(inputs, 0, tokens), "memory": prompt_memory(inputs, entries)}
    return _prompting(inputs, f"{entries} by {by}", 0, reason).model_copy(update=update | costs_of(inputs, time))


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
        # Its result is measured on an unquantised base.
        memory=max(training_memory(inputs, settings), prompt_memory(inputs, 0), key=lambda estimate: estimate.likely),
        **costs_of(inputs, time),
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
        evaluations_per_epoch=setting_rules.looks_per_epoch(epochs),
        precision=precision,
        seed=inputs.objective.seed,
        threads=inputs.machine.threads,
    )
    # Passes that the memory surely holds: halved while they are longer than what keeps a processor busy and than the longest row.
    limit, least = limit_of(inputs.objective.budget, inputs.machine), max(length, setting_rules.LEAST_PASS)
    while training_memory(inputs, settings).high > limit and settings.token_budget > least:
        settings = settings.model_copy(update={"token_budget": max(least, settings.token_budget // 2)})
    if settings.token_budget < budget:
        budget_reason = setting_rules.smaller_passes(settings.token_budget)
    return settings, (rate_reason, batch_reason, epochs_reason, length_reason, budget_reason, precision_reason)


#: Rungs that show something beside the text.
_SHOWING = (RungKind.PROMPT, RungKind.PROMPT_SEARCH, RungKind.HOSTED, RungKind.NEAREST, RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def refusal(inputs: PlanInputs, rung: RungPlan) -> Refusal | None:
    """Reason to leave the rung out; None when it is feasible. The likely estimate decides, not the worst one; the low end where other
    processes wanted the cores while the machine was timed."""
    reason = _unable(inputs, rung) or too_large(inputs, rung)
    if not reason:
        timed = inputs.timed(rung.training) if rung.training and rung.rung is not RungKind.ENCODER else None
        loaded, budget = timed.loaded if timed else inputs.machine.loaded, inputs.objective.budget
        hours, money = (estimate.low if loaded else estimate.likely for estimate in (rung.time, rung.money))
        if hours / 3600 > budget.hours:
            reason = f"needs about {amount(hours / 3600)} h and the budget is {budget.hours:g} h"
        elif money > budget.money:
            reason = f"costs about {amount(money)} {rung.money.unit} and the budget is {budget.money:g} {budget.currency}"
    return Refusal(rung=rung.rung, variant=rung.variant, reason=reason) if reason else None


def _unable(inputs: PlanInputs, rung: RungPlan) -> str | None:
    """Why the rung cannot be made at all, whatever it costs."""
    base, training = inputs.base, rung.training
    if rung.rung is RungKind.HOSTED and (why := why_not_hosted(inputs)):
        return why
    if training and training.lora and rung.rung is not RungKind.ENCODER:  # an encoder's layers are its own
        if not base.linear_shapes:
            kind = f" ({base.anatomy.model_type})" if base.anatomy else ""
            return f"{base.name}{kind} has no linear layers on which an adapter is placed: full fine-tuning trains all of its weights"
        unknown = next((name for name in training.lora.targets if name not in base.linear_shapes), None)
        if unknown:
            return f"{base.name} has no linear layer {unknown}, but {', '.join(base.linear_shapes)}"
    if training and not inputs.machine.training:
        return "training is not installed here (pip install 'tailorbird[local]')"
    if rung.rung is RungKind.QLORA and not inputs.machine.four_bit:
        return "weights in 4 bits need the package bitsandbytes (pip install 'tailorbird[local]')"
    # An encoder reads the beginning of a long text; a hosted model says itself what is too long.
    if inputs.objective.task.kind is not TaskKind.RANK and rung.rung not in (RungKind.ENCODER, RungKind.HOSTED):
        longest = training.max_length if training else longest_prompt(inputs) + inputs.tokens.target_max
        if longest > base.context:
            return f"the longest row needs {longest} tokens and {base.name} reads {base.context}"
    if rung.shots or rung.rung not in _SHOWING or rung.variant == "zero-shot":
        return None
    if rung.grounded or rung.rung in (RungKind.GROUNDING, RungKind.GROUNDED_LORA):
        return "the objective names no documents (documents:), or no passage fits into the context"
    return "no demonstration fits into the context"


def too_large(inputs: PlanInputs, rung: RungPlan) -> str | None:
    """Why the memory of the machine, or what the budget leaves of it, does not hold the rung."""
    limit = limit_of(inputs.objective.budget, inputs.machine)
    if rung.memory.likely <= limit:
        return None
    return f"needs about {rung.memory.likely:.1f} GiB of memory and may take {limit:.1f}: {suggest_machine(rung.memory.high)}"
