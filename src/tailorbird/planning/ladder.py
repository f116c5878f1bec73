"""Planned ladder: rungs in the order of their total cost, those of ``kind: rank`` included, and the rungs left out with reasons.

Selection of base models: one ladder over the rungs of several bases, with the reason each is in or out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import clash, terms_of
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import HostedVariant, Objective, TaskKind
from tailorbird.domain.plan import Estimate, LoraSettings, Machine, Plan, PlannedBase, Reason, RungPlan, TrainingSettings
from tailorbird.planning import setting_rules
from tailorbird.planning.estimates import (
    GIB,
    PROCESS_GIB,
    QUERY_TOKENS,
    READING_ALONE,
    TRAINING_BANDWIDTH,
    adapter_parameters,
    around,
    backbone_parameters,
    bandwidths,
    costs_of,
    encoder_rates,
    held_out_rows,
    interval,
    laid_out_tokens,
    limit_of,
    looks_of,
    money_estimate,
    order_rungs,
    reading_seconds,
    steps_of,
    steps_per_pass,
    suggest_machine,
    total,
    with_index,
)
from tailorbird.planning.floor import MOST_LEARNED, planned_floor, tuned_encoder, variant_of, why_not_tuned, why_words
from tailorbird.planning.inputs import DOCUMENT_TOKENS, PlanInputs
from tailorbird.planning.rung_plans import (
    few_shot,
    full,
    grounded_lora,
    grounding,
    hosted_few_shot,
    hosted_grounded,
    hosted_zero_shot,
    is_wanted,
    larger_lora,
    lora,
    nearest,
    prompt_search,
    qlora,
    refusal,
    too_large,
    zero_shot,
)
from tailorbird.planning.setting_rules import RANKS, rank


def make_plan(inputs: PlanInputs) -> Plan:
    """The frozen plan of a climb, cheapest rung first: making and traffic together. A rung that this machine or the budget cannot carry is
    left out, with the number; the budget is held against making alone.

    An explicit ladder is put into the order of cost, too. The plan may have no rung at all: then ``left_out`` says why.
    """
    return order_rungs(draft_plan(inputs), inputs.objective)


def draft_plan(inputs: PlanInputs) -> Plan:
    """The plan with its rungs in the order of what making them takes."""
    rungs: list[RungPlan] = []
    left_out: list[Refusal] = []
    # A listed encoder that cannot be tuned.
    listed = inputs.objective.ladder != "auto" and RungKind.ENCODER in inputs.objective.ladder
    reason = why_not_tuned(inputs) if listed else ""
    if (untuned := (Refusal(rung=RungKind.ENCODER, variant=variant_of(inputs), reason=reason) if reason else None)) is not None:
        left_out.append(untuned)
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
        encoder=digest_of(inputs.encoder) if inputs.encoder else None,
        comparison=inputs.comparison,
        memory_limit_gb=round(limit_of(inputs.objective.budget, inputs.machine), 2),
        risk=inputs.objective.business.risk,
    )


#: What makes a rung's plans, in the order of what making them takes.
_MAKERS: tuple[tuple[RungKind, Callable[[PlanInputs], RungPlan]], ...] = (
    (RungKind.ENCODER, tuned_encoder),
    (RungKind.PROMPT, zero_shot),
    (RungKind.PROMPT, few_shot),
    (RungKind.NEAREST, nearest),
    (RungKind.GROUNDING, grounding),
    (RungKind.HOSTED, hosted_zero_shot),
    (RungKind.HOSTED, hosted_few_shot),
    (RungKind.HOSTED, hosted_grounded),
    (RungKind.PROMPT_SEARCH, prompt_search),
    (RungKind.LORA, lora),
    (RungKind.QLORA, qlora),
    (RungKind.GROUNDED_LORA, grounded_lora),
    (RungKind.LORA, larger_lora),
    (RungKind.FULL, full),
)


#: What a hosted model's variants are called where they are wished for.
_HOSTED: dict[Callable[[PlanInputs], RungPlan], HostedVariant] = {
    hosted_zero_shot: "zero-shot",
    hosted_few_shot: "few-shot",
    hosted_grounded: "grounded",
}


def _wanted(inputs: PlanInputs) -> list[RungPlan]:
    order, asked = _order(inputs), inputs.objective.ladder
    if inputs.objective.task.kind is TaskKind.RANK:
        return [_led_by(order, rung) for rung in ranking_rungs(inputs) if asked == "auto" or rung.rung in asked]
    makers = [(kind, make) for kind, make in _MAKERS if asked == "auto" or kind in asked]
    return [_led_by(order, make(inputs)) for kind, make in makers if not _left_aside(inputs, kind, make)]


def _left_aside(inputs: PlanInputs, kind: RungKind, make: Callable[[PlanInputs], RungPlan]) -> bool:
    """An encoder where there are no labels, that there is not (``_untuned``), or that nobody lists where the floor is to read words alone;
    a prompt's search that nobody lists; a hosted model that the objective does not name, or that stands with another base,
    and variants of it that nobody asks for; passages without documents; a larger adapter
    where the objective lists rungs or says the rank, or the first one is the largest."""
    if kind is RungKind.ENCODER:
        unasked = inputs.objective.ladder == "auto" and bool(why_words(inputs.objective, inputs.train_rows))
        return inputs.objective.task.kind is not TaskKind.CLASSIFY or unasked or bool(why_not_tuned(inputs))
    if kind is RungKind.PROMPT_SEARCH:
        return inputs.objective.ladder == "auto"
    if kind is RungKind.HOSTED:
        elsewhere = inputs.endpoint is None and len(inputs.objective.bases) > 1
        return inputs.objective.hosted is None or elsewhere or not is_wanted(inputs.objective, _HOSTED[make])
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
    reason = refused.reason if refused else "lora fits the memory, and qlora is no better, only smaller and slower"
    return Refusal(rung=rung.rung, variant=rung.variant, reason=reason)


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


#: Epochs over questions, of which there are few, at most: the best weights are kept, and a run ends when two are none better.
EPOCHS, _FEWEST_EPOCHS = 8, 3
#: Documents that a cross-encoder orders anew, and that it compares at once.
RERANKED, COMPARED = 50, 12
#: Seconds until an index is written, read and loaded; to count the words of a token of it; of a search in itself, for each request and, by
#: each way, for each document among which it searches. At best, usually, at worst.
_START, _COUNTING, _SEARCH_SECONDS, _SECONDS_A_DOCUMENT = (0.5, 2.0, 8.0), (6e-7, 1e-6, 4e-6), 1e-3, (1e-7, 3e-7, 1e-6)
#: How often a trained weight, its gradient and its moments are written and read in a step.
_UPDATE_MOVES = 8
_FUSION = "Cormack, Clarke & Büttcher 2009"


def ranking_rungs(inputs: PlanInputs) -> list[RungPlan]:
    """All rungs, in the order of what making them takes."""
    return [
        _search(inputs, "words", "BM25: documents that share the question's words, without a model", "Robertson & Zaragoza 2009"),
        _search(inputs, "meaning", f"vectors of {inputs.base.name}: documents that say alike in other words", "Reimers & Gurevych 2019"),
        _search(inputs, "words and meaning", "both, fused by reciprocal rank: each finds what the other misses", _FUSION),
        _tuned(inputs, RungKind.BI_ENCODER, "lora"),
        _tuned(inputs, RungKind.BI_ENCODER, "full"),
        _tuned(inputs, RungKind.CROSS_ENCODER, "lora"),
        _tuned(inputs, RungKind.CROSS_ENCODER, "full"),
    ]


def _search(inputs: PlanInputs, variant: str, text: str, source: str) -> RungPlan:
    return _planned_ranking(inputs, RungKind.SEARCH, variant, None, (Reason(rule="search", text=text, source=source),))


def _tuned(inputs: PlanInputs, kind: RungKind, method: Literal["lora", "full"]) -> RungPlan:
    settings, reasons = _settings(inputs, method)
    variant = f"r{settings.lora.rank}" if settings.lora else "all weights"
    return _planned_ranking(inputs, kind, variant, settings, (_what(kind), *reasons))


def _query_tokens(inputs: PlanInputs) -> float:
    return inputs.tokens.prompt_mean or QUERY_TOKENS


def _learning_flops(inputs: PlanInputs, kind: RungKind, settings: TrainingSettings) -> float:
    """FLOPs of all steps, and of the looks at questions held out. Questions of a batch are padded to the longest of them, and moved towards
    all documents at once; a cross-encoder reads each with the documents that it is compared with."""
    weights, batch = backbone_parameters(inputs.base), settings.batch_size
    if kind is RungKind.CROSS_ENCODER:
        row, scores = COMPARED * (inputs.document_tokens + _query_tokens(inputs)), 0
    else:
        row, scores = (
            laid_out_tokens(inputs, batch, 1) if inputs.tokens.prompt_mean else QUERY_TOKENS,
            inputs.documents * inputs.base.hidden,
        )
    learned, looked = steps_of(inputs, settings) * batch, looks_of(settings) * held_out_rows(inputs.train_rows)
    return learned * ((4 if settings.lora else 6) * row * weights + 4 * scores) + 2 * looked * (row * weights + scores)


def _learning_time(inputs: PlanInputs, flops: float, settings: TrainingSettings, trained: int) -> Estimate:
    moved = 4.0 * _UPDATE_MOVES * trained * steps_of(inputs, settings)
    speeds = zip(encoder_rates(inputs), bandwidths(inputs, TRAINING_BANDWIDTH), strict=True)
    low, likely, high = (flops / rate + moved / moving for rate, moving in speeds)
    return interval([low * min(1.0, _FEWEST_EPOCHS / settings.epochs), likely, high], "s")


def _asking_time(inputs: PlanInputs, kind: RungKind, variant: str, requests: int) -> Estimate:
    """Seconds of so many requests that come one by one: a question is read by each encoder that is asked, and searched for in each way; a
    cross-encoder reads it once more with each of the documents that it orders anew."""
    ways, readers = _WAYS.get(variant, (3, 2) if kind is RungKind.BI_ENCODER else (2, 1))
    query, weights = _query_tokens(inputs), backbone_parameters(inputs.base)
    read = reading_seconds(inputs, weights, requests * readers * query, READING_ALONE)
    pairs = requests * RERANKED * (inputs.document_tokens + query) if kind is RungKind.CROSS_ENCODER else 0
    return total(
        interval([requests * (_SEARCH_SECONDS + ways * each * inputs.documents) for each in _SECONDS_A_DOCUMENT], "s"),
        read,
        reading_seconds(inputs, weights, pairs),
    )


#: Ways in which a variant without tuning searches, and encoders that read the question.
_WAYS = {"words": (1, 0), "meaning": (1, 1), "words and meaning": (2, 1)}


def _what(kind: RungKind) -> Reason:
    if kind is RungKind.BI_ENCODER:
        text = "the side of the questions learns, against all documents at once, and is fused with what it learned from; the index stays"
        return Reason(rule="bi-encoder", text=text, source="Karpukhin et al. 2020, arXiv 2004.04906")
    text = f"a question and a document are read together; the first {RERANKED} of the fusion are ordered anew"
    return Reason(rule="cross-encoder", text=text, source="Nogueira & Cho 2019, arXiv 1901.04085")


def _settings(inputs: PlanInputs, method: Literal["lora", "full"]) -> tuple[TrainingSettings, tuple[Reason, ...]]:
    batch, batch_reason = setting_rules.batch_size()
    targets = tuple(inputs.base.linear_shapes)
    asked = setting_rules.wishes(inputs, method).epochs
    epochs = EPOCHS if asked == "auto" else asked
    steps = epochs * steps_per_pass(inputs.train_rows, batch)
    rate, rate_reason = setting_rules.learning_rate(inputs, method, max(steps, setting_rules.SHORT_RUN))
    settings = TrainingSettings(
        method=method,
        lora=LoraSettings(rank=setting_rules.SMALLEST_DEFAULT_RANK, alpha=setting_rules.ALPHA, targets=targets)
        if method == "lora"
        else None,
        learning_rate=rate,
        epochs=epochs,
        batch_size=batch,
        token_budget=8192,
        max_length=min(inputs.base.context, MOST_LEARNED),
        evaluations_per_epoch=1,
        precision="fp32",
        seed=inputs.objective.seed,
        threads=inputs.machine.threads,
    )
    return settings, (rate_reason, batch_reason)


def _planned_ranking(
    inputs: PlanInputs, kind: RungKind, variant: str, settings: TrainingSettings | None, reasons: tuple[Reason, ...]
) -> RungPlan:
    trained = 0 if settings is None else adapter_parameters(inputs.base, settings.lora) if settings.lora else inputs.base.parameters
    flops = _learning_flops(inputs, kind, settings) if settings else 0.0
    learning = _learning_time(inputs, flops, settings, trained) if settings else None
    words, tokens = variant == "words", inputs.documents * inputs.document_tokens
    counting = interval([0.0 if variant == "meaning" else tokens * each for each in _COUNTING], "s")
    parts = (interval(_START, "s"), counting, _asking_time(inputs, kind, variant, inputs.dev_rows))
    time = total(*parts, learning) if learning else total(*parts)
    planned = RungPlan(
        rung=kind,
        variant=variant,
        training=settings,
        trained_parameters=trained,
        memory=_memory(inputs, trained, words=words),
        **costs_of(inputs, time),
        serving_cost=money_estimate(inputs, _asking_time(inputs, kind, variant, 1000)),
        training_time=learning,
        encoder=None if words else inputs.base.digest,
        reasons=reasons,
    )
    return planned if words else with_index(inputs, planned, backbone_parameters(inputs.base), tokens)


def _memory(inputs: PlanInputs, trained: int, *, words: bool) -> Estimate:
    """Weights in fp32, gradients and moments, one batch of documents, the index; words alone hold the texts."""
    base = inputs.base
    batch = 32 * DOCUMENT_TOKENS * 4 * (17 * base.hidden * base.layers if trained else 8 * base.hidden)
    held = 4 * base.parameters + 12 * trained + batch + 4 * inputs.documents * base.hidden
    texts = _BYTES_A_TOKEN * inputs.documents * inputs.document_tokens
    return around(PROCESS_GIB + (texts if words else held + texts) / GIB, (0.7, 1.6), "GiB")


#: Bytes of a token of an indexed text: the text, and where its words stand.
_BYTES_A_TOKEN = 25


#: Bytes that a weight takes in memory at the least, and a GiB.
_BYTES, _GIB = 2, 2**30


@dataclass(frozen=True)
class BaseOffer:
    """A base model that the objective lists. ``inputs`` is what planning with it rests on; None where it stays out, as ``out`` says, and
    ``parameters`` is 0 where they are not known."""

    name: str
    label: str
    license: str
    parameters: int
    inputs: PlanInputs | None
    out: str = ""


@dataclass(frozen=True)
class _Planned:
    """An offer, what is planned with it, and why it is in or out."""

    offer: BaseOffer
    plan: Plan
    reason: str


def base_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Label of each base in the names of rungs: the last part of its name, or as much more as tells it from the others."""
    shorter = (lambda name: PurePosixPath(name.partition("@")[0]).name, lambda name: PurePosixPath(name).name, lambda name: name)
    for short in shorter:
        labels = tuple(short(name).replace("/", "-").replace(" ", "-").lower() for name in names)
        if len(set(labels)) == len(names) and all(labels):
            return labels
    return tuple(f"base-{place}" for place, _ in enumerate(names, 1))


def why_not_fetched(objective: Objective, machine: Machine, license: str, parameters: int) -> str:
    """Reason not to fetch a base: its licence does not allow the use, or its weights alone do not fit. Empty where it may do."""
    if why := clash(license, objective.business.use):
        return f"its licence {license} clashes with `business.use: {objective.business.use}`: {why}"
    needed, limit = parameters * _BYTES / _GIB, limit_of(objective.budget, machine)
    if needed <= limit:
        return ""
    return f"its {parameters / 1e9:.1f} billion weights alone need {needed:.0f} GiB and may take {limit:.1f}: {suggest_machine(needed)}"


def make_ladder(offers: Sequence[BaseOffer]) -> Plan:
    """The plan over all bases. At least one offer must have inputs.

    Rungs of all bases stand in the order of what they cost in all, making and traffic together. A base without a feasible rung is out, with
    the reason of its cheapest.
    """
    several = len(offers) > 1
    objective = next(offer.inputs.objective for offer in offers if offer.inputs)
    planned = [_planned(offer, several) for offer in offers if offer.inputs]
    first = next((one for one in planned if one.plan.rungs), planned[0])
    reasons = {one.offer.name: one for one in planned}
    update = {
        "base_model": first.plan.base_model,
        "rungs": _each_once(rung for one in planned for rung in one.plan.rungs),
        "left_out": tuple(refusal for one in planned for refusal in _left_out(one, several)),
        "calibrations": tuple(dict.fromkeys(digest for one in planned for digest in one.plan.calibrations)),
        "bases": tuple(_told(offer, reasons.get(offer.name)) for offer in offers),
    }
    return order_rungs(first.plan.model_copy(update=update), objective)


def _each_once(rungs: Iterable[RungPlan]) -> tuple[RungPlan, ...]:
    """A rung that rests on no base is planned with each, and tried once."""
    return tuple({(rung.rung, rung.variant): rung for rung in reversed(list(rungs))}.values())[::-1]


def _planned(offer: BaseOffer, several: bool) -> _Planned:
    assert offer.inputs is not None
    record, plan = digest_of(offer.inputs.base), draft_plan(offer.inputs)
    rungs = tuple(_on_base(rung, offer, record) for rung in plan.rungs) if several else plan.rungs
    reason = (
        f"in: {len(rungs)} rungs, the shortest of about {min(rung.time.likely for rung in rungs):.0f} s"
        if rungs
        else (f"out: {plan.left_out[0].name}: {plan.left_out[0].reason}" if plan.left_out else "out: the ladder lists no rung for it")
    )
    return _Planned(offer, plan.model_copy(update={"base_model": record, "rungs": rungs}), reason)


def _on_base(rung: RungPlan, offer: BaseOffer, record: str) -> RungPlan:
    if rung.rung is RungKind.ENCODER:
        return rung
    if rung.endpoint is not None:
        return rung.model_copy(update={"base": record})
    text = f"on {offer.label}: rungs of all bases stand in the order of what they cost in all"
    reason = Reason(rule="base", text=text, source="docs/design/ladder.md")
    return rung.model_copy(update={"variant": f"{rung.variant} on {offer.label}", "base": record, "reasons": (reason, *rung.reasons)})


def _left_out(one: _Planned, several: bool) -> Iterator[Refusal]:
    """The rungs that are left out, each with its base; of a base that is out, the first speaks for all."""
    if not several:
        yield from one.plan.left_out
        return
    for refused in one.plan.left_out if one.plan.rungs else one.plan.left_out[:1]:
        yield refused.model_copy(update={"variant": f"{refused.variant} on {one.offer.label}"})


def _told(offer: BaseOffer, one: _Planned | None) -> PlannedBase:
    inputs = offer.inputs
    return PlannedBase(
        name=offer.name,
        label=offer.label,
        license=offer.license,
        parameters=offer.parameters,
        rungs=len(one.plan.rungs) if one else 0,
        reason=f"{one.reason if one else f'out: {offer.out}'}{_of_licence(offer)}",
        base=digest_of(inputs.base) if inputs else None,
        tokens=inputs.tokens if inputs else None,
    )


def _of_licence(offer: BaseOffer) -> str:
    """A word on a licence that nobody has read for the planner."""
    return "" if terms_of(offer.license) else f"; somebody must read its licence ({offer.license})"
