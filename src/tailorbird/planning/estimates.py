"""Parameter, token and FLOP counts of a rung.

FLOPs a token: full 6 N + 6 V h f, LoRA 4 N + 6 P + 4 V h f, a forward pass 2 N, with N the weights of the linear layers, P those of the
adapter, V h the head, f the share of tokens that bear loss; attention adds 4 h L a (query, key) pair forward and twice that backward
(Kaplan 2020, arXiv 2001.08361; the LoRA count after Schulman et al. 2025).

Estimates of training time, scoring time, money and energy, and of the cost of 1,000 requests.

Seconds that an encoder takes to read texts: those of an index, and the queries that are looked up in it.

Memory estimate of a rung, at the training loop's longest pass.

The loop packs rows behind their common prefix into passes of at most ``token_budget`` tokens, keeps what each layer's backward pass needs,
holds logits of 256 answer tokens at once (of all in a pass, where a model caps or shifts them), and updates in fp32. So the highest is the
largest of two moments: the end of the forward pass of the longest pass, and the update, when gradients, weights and moments are all there.
The numbers a token and layer are those that layers of transformers keep. A GPU differs by its allocator
alone. What allocators add comes from timed steps where there are any, from a constant otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.domain.base_model import BaseModelRef, SavedActivations
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import Budget, ExpectedTraffic, Objective
from tailorbird.domain.plan import (
    Calibration,
    Estimate,
    LoraSettings,
    Machine,
    Plan,
    PlannedTraffic,
    Prices,
    Reason,
    RungPlan,
    TokenProfile,
    TrainingSettings,
)
from tailorbird.domain.value import Digest
from tailorbird.planning.inputs import PASSAGE_TOKENS, PlanInputs, demonstration_tokens
from tailorbird.system.process import KEPT_PRIMITIVES, PRIMITIVE_MIB

#: Share of the training rows that is held out to choose the best checkpoint, and the most of them.
HELD_OUT, MOST_HELD_OUT = 0.10, 400


def held_out_rows(rows: int) -> int:
    """Of ``rows`` to train on, those that are held out to choose the best checkpoint."""
    return max(1, math.ceil(min(rows * HELD_OUT, MOST_HELD_OUT)))


def steps_per_pass(rows: int, batch: int) -> int:
    """Optimiser steps of one pass over ``rows``, less those held out."""
    return max(1, math.ceil((rows - held_out_rows(rows)) / batch))


def parameters_per_rank(base: BaseModelRef, targets: tuple[str, ...]) -> int:
    """Adapter weights that one rank adds: inputs + outputs of every adapted layer. A layer that the base lacks adds none."""
    return sum(group.count * (group.inputs + group.outputs) for group in base.linear_groups if group.name in targets)


def adapter_parameters(base: BaseModelRef, adapter: LoraSettings) -> int:
    """Weights of an adapter."""
    return adapter.rank * parameters_per_rank(base, adapter.targets)


def backbone_parameters(base: BaseModelRef) -> int:
    """Weights that every token is multiplied with: linear layers and the experts that it meets, without embeddings, head and norms; all but
    the embeddings where layers are not known one by one."""
    if not base.linear_groups:
        return max(0, base.parameters - base.vocabulary * base.hidden)
    experts = base.anatomy.experts if base.anatomy else None
    met = experts.parameters * experts.active // experts.experts if experts else 0
    return linear_parameters(base) + met


def linear_parameters(base: BaseModelRef) -> int:
    """Weights of the linear layers of all blocks: what a quantised base holds in 4 bits."""
    return sum(group.count * group.inputs * group.outputs for group in base.linear_groups)


def suffix_tokens(tokens: TokenProfile) -> float:
    """Mean tokens of a rendered prompt behind the prefix that all share."""
    return max(1.0, tokens.prompt_mean - tokens.shared_prefix)


@dataclass(frozen=True)
class FlopsWork:
    """``tokens``, (query, key) ``pairs`` of attention, and ``answers``, the tokens that meet the head."""

    tokens: float
    pairs: float
    answers: float


def work_of(rows: float, own: float, prefix: float, passes: float, answers: float) -> FlopsWork:
    """``rows`` of ``own`` tokens each behind a prefix that is computed once in each of ``passes``; each row has ``answers`` answer tokens.

    A token attends to the prefix and to the earlier tokens of its own row.
    """
    pairs = passes * prefix * (prefix + 1) / 2 + rows * (own * prefix + own * (own + 1) / 2)
    return FlopsWork(tokens=passes * prefix + rows * own, pairs=pairs, answers=rows * answers)


def prefix_of(tokens: TokenProfile) -> int:
    """Tokens that a training pass computes once for all of its rows: none where each row has its own."""
    return tokens.shared_prefix if tokens.layout == "packed" else 0


def own_tokens(inputs: PlanInputs) -> float:
    """Mean tokens of a row behind what is computed once for all."""
    tokens = inputs.tokens
    return (suffix_tokens(tokens) if tokens.layout == "packed" else tokens.prompt_mean) + tokens.target_mean


def laid_out_tokens(inputs: PlanInputs, rows: float, passes: int) -> float:
    """Mean tokens that a row takes in ``passes`` of ``rows``: where rows are padded, those of the longest of its pass, which lies about
    √(2 ln n) · sd above the mean of n rows, and as much less as rows are sorted into more passes."""
    tokens, own = inputs.tokens, own_tokens(inputs)
    if tokens.layout != "padded" or rows < 2:
        return own
    return min(own + tokens.row_sd * math.sqrt(2 * math.log(rows)) / passes, max(own, tokens.prompt_max + tokens.target_max))


def passes_of(inputs: PlanInputs, settings: TrainingSettings, rows: float) -> int:
    """Passes that ``rows`` mean rows take. A pass is closed before the row that would not fit, so half a row of room is lost."""
    if inputs.tokens.layout == "single":
        return max(1, math.ceil(rows))
    own = own_tokens(inputs)
    room = max(own, settings.token_budget - prefix_of(inputs.tokens) - own / 2)
    return max(1, math.ceil(rows * own / room))


def batch_of(inputs: PlanInputs, settings: TrainingSettings) -> FlopsWork:
    """One step's batch of mean rows, as they are laid out."""
    return _laid_out(inputs, settings, settings.batch_size)


def held_out_of(inputs: PlanInputs, settings: TrainingSettings) -> FlopsWork:
    """One look at the held-out rows."""
    return _laid_out(inputs, settings, held_out_rows(inputs.train_rows))


def _laid_out(inputs: PlanInputs, settings: TrainingSettings, rows: int) -> FlopsWork:
    passes = passes_of(inputs, settings, rows)
    return work_of(rows, laid_out_tokens(inputs, rows, passes), prefix_of(inputs.tokens), passes, inputs.tokens.learned_mean)


def steps_of(inputs: PlanInputs, settings: TrainingSettings) -> int:
    """Optimiser steps of the whole run."""
    return settings.epochs * steps_per_pass(inputs.train_rows, settings.batch_size)


def looks_of(settings: TrainingSettings) -> int:
    """Times that the held-out loss is measured: before the first step, and through each epoch."""
    return 1 + settings.epochs * settings.evaluations_per_epoch


def training_flops(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """FLOPs of all optimiser steps and of the held-out evaluations between them."""
    learned = steps_of(inputs, settings) * step_flops(inputs, settings.lora, batch_of(inputs, settings))
    return learned + looks_of(settings) * forward_flops(inputs, held_out_of(inputs, settings))


def step_flops(inputs: PlanInputs, adapter: LoraSettings | None, work: FlopsWork) -> float:
    """FLOPs forward and backward."""
    base, backbone = inputs.base, backbone_parameters(inputs.base)
    head, attention = base.vocabulary * base.hidden * work.answers, 12 * base.hidden * base.layers * work.pairs
    if adapter is None:
        return 6 * backbone * work.tokens + 6 * head + attention
    return (4 * backbone + 6 * adapter_parameters(base, adapter)) * work.tokens + 4 * head + attention


def forward_flops(inputs: PlanInputs, work: FlopsWork) -> float:
    """FLOPs of a forward pass."""
    base = inputs.base
    head, attention = base.vocabulary * base.hidden * work.answers, 4 * base.hidden * base.layers * work.pairs
    return 2 * backbone_parameters(base) * work.tokens + 2 * head + attention


def interval(values: Sequence[float], unit: str) -> Estimate:
    """``values`` are low, likely, high."""
    low, likely, high = values
    return Estimate(low=min(low, likely), likely=likely, high=max(high, likely), unit=unit)


def around(likely: float, spread: tuple[float, float], unit: str) -> Estimate:
    """``spread`` are the factors of the low and the high end."""
    return interval((likely * spread[0], likely, likely * spread[1]), unit)


def total(*parts: Estimate) -> Estimate:
    """The sum of estimates in one unit, ends added to ends."""
    return interval((sum(p.low for p in parts), sum(p.likely for p in parts), sum(p.high for p in parts)), parts[0].unit)


def order_rungs(plan: Plan, objective: Objective) -> Plan:
    """``plan`` with each rung's total, in the order of the totals. A rung that costs more to make than one behind it says
    why it stands there.

    Rungs of one base model that cost the same to ask keep the order in which they stand in ``plan``: the climb's refusals rest on it.
    """
    traffic = objective.expected_traffic
    keyed = sorted(_keyed(plan.rungs, traffic), key=lambda one: one.key)
    rungs = _indexed_once([_told(place, keyed, traffic) for place, _ in enumerate(keyed)], plan.prices)
    planned = PlannedTraffic(per_month=traffic.per_month, horizon_months=traffic.horizon_months, assumed=objective.traffic is None)
    return plan.model_copy(update={"rungs": rungs, "traffic": planned})


def _indexed_once(rungs: Sequence[RungPlan], prices: Prices) -> tuple[RungPlan, ...]:
    """What a rung has read for its index lies there for the rungs above it, which look the same up by the same encoder."""
    found, read = list[RungPlan](), set[tuple[bool, Digest | None]]()
    for rung in rungs:
        index, shared = rung.index_time, (rung.rung is RungKind.NEAREST, rung.encoder)
        if index is None or shared not in read:
            found.append(rung)
            read |= {shared} if index else set()
            continue
        money, energy = (
            interval([each * end for end in _spread(index)], unit)
            for each, unit in ((prices.per_second, prices.currency), (prices.kilowatts / 3600, "kWh"))
        )
        less = {"time": _less(rung.time, index), "money": _less(rung.money, money), "index_time": None}
        more = {"energy": _less(rung.energy, energy) if rung.energy else None, "total": _less(rung.total, money) if rung.total else None}
        found.append(rung.model_copy(update=less | more))
    return tuple(found)


def _less(whole: Estimate, part: Estimate) -> Estimate:
    """``whole`` without a ``part`` that was added to it."""
    return interval([max(0.0, one - other) for one, other in zip(_spread(whole), _spread(part), strict=True)], whole.unit)


@dataclass(frozen=True)
class _Keyed:
    """A rung with what decides its place: the highest cost of making so far among those of its base that cost as much to ask."""

    rung: RungPlan
    making: Estimate
    total: float
    place: int

    @property
    def key(self) -> tuple[float, float, int]:
        """Beside many requests a small cost of making is lost in rounding: of equal totals it decides."""
        return self.total, self.making.likely, self.place

    @property
    def name(self) -> str:
        return f"{self.rung.rung.value} {self.rung.variant}"


def _keyed(rungs: Sequence[RungPlan], traffic: ExpectedTraffic) -> Iterator[_Keyed]:
    highest: dict[tuple[Digest | None, float], Estimate] = {}
    for place, rung in enumerate(rungs):
        alike = rung.base, _asking(rung).likely
        before = highest.get(alike, rung.money)
        highest[alike] = making = _both(before, rung.money)
        yield _Keyed(rung, making, _total(making, rung, traffic).likely, place)


def _both(one: Estimate, other: Estimate) -> Estimate:
    """The higher of two estimates, end by end."""
    return interval([max(one.low, other.low), max(one.likely, other.likely), max(one.high, other.high)], other.unit)


def _asking(rung: RungPlan) -> Estimate:
    return rung.serving_cost or Estimate(low=0.0, likely=0.0, high=0.0, unit=rung.money.unit)


def _total(making: Estimate, rung: RungPlan, traffic: ExpectedTraffic) -> Estimate:
    return in_all(making, _asking(rung), traffic)


def in_all(making: Estimate, asking: Estimate, traffic: ExpectedTraffic) -> Estimate:
    """What making and all requests of the traffic cost; ``asking`` is of 1,000 requests."""
    thousands = traffic.requests / 1000
    ends = ((making.low, asking.low), (making.likely, asking.likely), (making.high, asking.high))
    return interval([made + thousands * asked for made, asked in ends], making.unit)


def _told(place: int, keyed: Sequence[_Keyed], traffic: ExpectedTraffic) -> RungPlan:
    """The rung with its total, and with the reason where one that costs less to make stands behind it."""
    one = keyed[place]
    rung = one.rung.model_copy(update={"total": _total(one.rung.money, one.rung, traffic)})
    behind = [other for other in keyed[place + 1 :] if other.making.likely < one.making.likely]
    if not behind:
        return rung
    nearest = behind[0]
    more = one.making.likely - nearest.making.likely
    less = traffic.requests / 1000 * (_asking(nearest.rung).likely - _asking(one.rung).likely)
    text = (
        f"stands before {nearest.name}, although making it costs {more:.2g} {rung.money.unit} more: "
        f"{traffic.requests:,.0f} requests cost {less:.2g} less"
    )
    return rung.model_copy(update={"reasons": (*rung.reasons, Reason(rule="traffic", text=text, source="docs/design/ladder.md"))})


def _spread(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.low, estimate.likely, estimate.high


#: Share of the matmul rate that the products of scoring reach: at best, usually, at worst; on a GPU a guess, on a CPU fitted.
SCORING_RATE, GPU_SCORING_RATE = (1.0, 0.85, 0.25), (0.60, 0.40, 0.10)
#: GB/s at which activations are written and read on a CPU: in scoring, and in training, where they leave the caches.
SCORING_BANDWIDTH, TRAINING_BANDWIDTH = (12.0, 8.0, 2.5), (10.0, 5.0, 2.5)
#: GB/s at which a CPU reads the weights once for each pass. With the two above fitted to `benchmarks/decision/run.py --only scoring`.
WEIGHT_BANDWIDTH = (45.0, 35.0, 10.0)
#: GB/s at which a GPU moves either.
GPU_BANDWIDTH = (1500.0, 800.0, 400.0)
#: How often an activation is written and read, forward.
FORWARD_MOVES = 2
#: Seconds to load the model.
START_SECONDS = (2.0, 5.0, 20.0)
#: Demonstration sets that the few-shot rung tries, and training rows it scores each on.
FEW_SHOT_DRAWS, FEW_SHOT_ROWS = 3, 48
#: Prompts that a search tries, about.
SEARCHED_PROMPTS = 24
#: Rows scored one by one for their latency before the rest is batched, and rows a batch.
TIMED_ROWS, BATCHED_ROWS = 80, 32
#: A rate for machines that were not measured, GFLOP/s a core.
_UNMEASURED_GFLOPS = 10.0


def prompt_time(inputs: PlanInputs, shots: int, looked_up: float = 0.0) -> Estimate:
    """Seconds to choose demonstrations, where there are any, and to measure the prompt on dev. ``looked_up`` as ``scoring_seconds``."""
    # Held-out rows are scored for each drawn set, and twice more to see whether a preference of the model is to be taken off.
    tried = (FEW_SHOT_DRAWS if shots else 0) + (2 if inputs.tokens.label_trie else 0)
    rows = measured_rows(inputs) + tried * FEW_SHOT_ROWS
    seconds = zip(START_SECONDS, scoring_seconds(inputs, shots, rows, looked_up=looked_up), strict=True)
    return interval([sum(both) for both in seconds], "s")


def measured_rows(inputs: PlanInputs) -> int:
    """Rows that a candidate answers once it is made: dev and, where an item may bear several labels, those held out of train, on which it
    is chosen from which probability a label is given."""
    return inputs.dev_rows + (held_out_rows(inputs.train_rows) if inputs.objective.task.labels == "many" else 0)


def scoring_seconds(
    inputs: PlanInputs, shots: int, rows: int, *, alone: bool = False, looked_up: float = 0.0, prompts: int = 1
) -> list[float]:
    """Seconds to answer ``rows`` messages: what they share is computed once and kept, and every pass reads all weights.

    ``alone``: each comes by itself, as requests do. ``looked_up`` counts the tokens that are looked up for each row: no two share them.
    Behind several ``prompts`` what rows share is computed once for each.
    """
    tokens, machine = inputs.tokens, inputs.machine
    shared = tokens.shared_prefix + tokens.label_list + shots * demonstration_tokens(inputs)
    answer = tokens.label_trie or tokens.target_mean
    work = work_of(rows, suffix_tokens(tokens) + looked_up + answer, shared, prompts, answer)
    single = rows if alone else min(rows, TIMED_ROWS)
    # A generated token is a pass of its own; labels are scored in one.
    passes = single * (1 if tokens.label_trie else tokens.target_mean) + (rows - single) / BATCHED_ROWS
    wide, gflops = (2, machine.bf16_gflops) if machine.fast_bf16 else (4, machine.fp32_gflops)
    moved, read = work.tokens * FORWARD_MOVES * 17 * wide * inputs.base.hidden * inputs.base.layers, passes * inputs.base.parameters * wide
    activations, weights = bandwidths(inputs, SCORING_BANDWIDTH), bandwidths(inputs, WEIGHT_BANDWIDTH)
    speeds = zip(rates(inputs, gflops, GPU_SCORING_RATE if machine.gpus else SCORING_RATE), activations, weights, strict=True)
    return [forward_flops(inputs, work) / rate + moved / moving + read / reading for rate, moving, reading in speeds]


def rates(inputs: PlanInputs, gflops: float, reached: tuple[float, float, float]) -> list[float]:
    """FLOP/s at best, usually, at worst."""
    return [1e9 * share * (gflops or _UNMEASURED_GFLOPS * inputs.machine.cores) for share in reached]


def bandwidths(inputs: PlanInputs, on_cpu: tuple[float, float, float]) -> list[float]:
    """Bytes a second at best, usually, at worst."""
    return [1e9 * moved for moved in (GPU_BANDWIDTH if inputs.machine.gpus else on_cpu)]


#: Share of the measured matmul rate that the products reach: at best, usually, at worst.
TRAINING_RATE = (0.60, 0.45, 0.30)
#: How often an activation is written and read, forward and backward.
TRAINING_MOVES = 6
#: What making the frozen weights anew for each product adds to the time of a pass (measured: one in eight).
NF4_TIME = 1.15
#: Seconds to load the model and write the result, without timed steps.
TRAINING_START_SECONDS = (2.0, 5.0, 20.0)
#: The ends of the interval with timed steps; and where other processes wanted the cores while they were timed.
TIMED, LOADED = (0.85, 1.25), (0.6, 1.6)


def training_time(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """Seconds to train a candidate and to measure it on dev."""
    timed = inputs.timed(settings)
    start = around(timed.read_seconds, _ends(timed), "s") if timed else interval(TRAINING_START_SECONDS, "s")
    measured = interval(scoring_seconds(inputs, 0, measured_rows(inputs)), "s")
    return total(start, loop_time(inputs, settings), measured)


def loop_time(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """Seconds of the loop alone: steps, held-out looks, checkpoints.

    Without timed steps: FLOPs / (measured matmul rate x the share of it that is reached) + bytes moved / bandwidth, for on a processor
    that multiplies fast what lies between the products takes as long as they do. With timed steps: seconds a FLOP and seconds a pass,
    fitted to a small and a large pass; the update by the weights it touches; checkpoints by the bytes they write; times what finished
    trainings on this machine took of their estimates.
    """
    timed = inputs.timed(settings)
    if timed is None:
        tokens = steps_of(inputs, settings) * batch_of(inputs, settings).tokens
        return interval(_guessed_seconds(inputs, settings, training_flops(inputs, settings), tokens), "s")
    pass_seconds, per_flop = _fitted(inputs, timed, forward=False)
    look_seconds, per_forward_flop = _fitted(inputs, timed, forward=True)
    trained = adapter_parameters(inputs.base, settings.lora) if settings.lora else inputs.base.parameters
    as_many = trained / max(1, timed.trained_parameters)
    step = (
        passes_of(inputs, settings, settings.batch_size) * pass_seconds
        + per_flop * step_flops(inputs, settings.lora, batch_of(inputs, settings))
        + timed.update_seconds * as_many
    )
    looked = held_out_of(inputs, settings)
    looking_passes = passes_of(inputs, settings, held_out_rows(inputs.train_rows))
    look = looking_passes * look_seconds + per_forward_flop * forward_flops(inputs, looked)
    looks = looks_of(settings)
    # Weights and moments with each look, the best weights apart with the better ones; before the first step there are no moments.
    written = (looks * (12 + 4) - 8) * trained / (1e6 * timed.write_mb_s)
    return around((steps_of(inputs, settings) * step + timed.moments_seconds * as_many + looks * look + written), _ends(timed), "s")


def _ends(timed: Calibration) -> tuple[float, float]:
    return LOADED if timed.loaded else TIMED


def _fitted(inputs: PlanInputs, timed: Calibration, *, forward: bool) -> tuple[float, float]:
    """Seconds a pass takes whatever its length, and seconds a FLOP: the line through a small and a large pass, neither below zero."""
    points = []
    for one in timed.passes:
        work = FlopsWork(one.tokens, one.pairs, one.answers)
        flops = forward_flops(inputs, work) if forward else step_flops(inputs, timed.settings.lora, work)
        points.append((flops, one.forward_seconds if forward else one.seconds))
    (small, small_seconds), (large, large_seconds) = points[0], points[-1]
    slope = (large_seconds - small_seconds) / (large - small) if large > small else 0.0
    if slope <= 0 or small_seconds - slope * small < 0:
        return 0.0, large_seconds / large
    return small_seconds - slope * small, slope


def _guessed_seconds(inputs: PlanInputs, settings: TrainingSettings, flops: float, tokens: float) -> list[float]:
    """Seconds of ``flops`` of training over ``tokens`` tokens, by formula."""
    machine = inputs.machine
    wide, gflops = (2, machine.bf16_gflops) if settings.precision == "bf16" else (4, machine.fp32_gflops)
    moved = tokens * TRAINING_MOVES * 17 * wide * inputs.base.hidden * inputs.base.layers
    slower = NF4_TIME if settings.method == "qlora" else 1.0
    speeds = zip(rates(inputs, gflops, TRAINING_RATE), bandwidths(inputs, TRAINING_BANDWIDTH), strict=True)
    return [slower * (flops / rate + moved / bandwidth) for rate, bandwidth in speeds]


def money_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """What the time costs at the machine's price, and its energy where that is paid apart."""
    prices, price = inputs.prices, inputs.prices.per_second
    return interval([time.low * price, time.likely * price, time.high * price], prices.currency)


def energy_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """kWh at the power that the machine draws while it works."""
    kilowatts = inputs.prices.kilowatts / 3600
    return interval([time.low * kilowatts, time.likely * kilowatts, time.high * kilowatts], "kWh")


def costs_of(inputs: PlanInputs, time: Estimate) -> dict[str, Any]:
    """``time``, ``money`` and ``energy`` of a rung that takes so long to make and measure."""
    return {"time": time, "money": money_estimate(inputs, time), "energy": energy_estimate(inputs, time)}


def serving_estimate(inputs: PlanInputs, shots: int, looked_up: float = 0.0) -> Estimate:
    """What 1,000 requests cost that come one by one: the machine's time for each. What all of them share, demonstrations too, is computed
    once and kept; the ``looked_up`` tokens of each are its own. An adapter's own products are left out: it can be merged."""
    low, likely, high = scoring_seconds(inputs, shots, 1000, alone=True, looked_up=looked_up)
    return money_estimate(inputs, Estimate(low=low, likely=likely, high=high, unit="s"))


#: Tokens of a question that are read, where none were counted.
QUERY_TOKENS = 24
#: Share of the measured rate of products that an encoder reaches: at best, usually, at worst; with many texts (to learn from them, too),
#: and with one.
READING, READING_ALONE = (0.9, 0.5, 0.12), (0.4, 0.2, 0.05)


def encoder_rates(inputs: PlanInputs, shares: tuple[float, float, float] = READING) -> list[float]:
    """FLOP/s of an encoder on this machine, at best, usually, at worst. Encoders run on the processor, also where there is a GPU, whose
    rate is the one that was measured."""
    return rates(inputs, 0.0 if inputs.machine.gpus else inputs.machine.fp32_gflops, shares)


def reading_seconds(inputs: PlanInputs, parameters: int, tokens: float, shares: tuple[float, float, float] = READING) -> Estimate:
    """Seconds of a forward pass over ``tokens`` by an encoder of so many ``parameters``."""
    return interval([2.0 * parameters * tokens / rate for rate in encoder_rates(inputs, shares)], "s")


def lookup_seconds(inputs: PlanInputs, queries: int) -> Estimate:
    """Seconds to find the passages of ``queries`` by the release that the objective names; 0 without one. Each way by vectors reads a query
    once; a cross-encoder reads it once more with each passage that it orders anew."""
    ranker = inputs.ranker
    if ranker is None:
        return interval([0.0] * 3, "s")
    read = QUERY_TOKENS * sum(part is not None for part in (ranker.encoder, ranker.tuned))
    read += ranker.depth * (PASSAGE_TOKENS + QUERY_TOKENS) if ranker.reranker else 0
    return reading_seconds(inputs, ranker.parameters, queries * read)


def with_index(inputs: PlanInputs, planned: RungPlan, parameters: int, tokens: float) -> RungPlan:
    """``planned`` with what an encoder of so many ``parameters`` takes to read the ``tokens`` of its index."""
    read = reading_seconds(inputs, parameters, tokens)
    return with_seconds(inputs, planned, read).model_copy(update={"index_time": read}) if read.likely else planned


def with_seconds(inputs: PlanInputs, planned: RungPlan, more: Estimate) -> RungPlan:
    """``planned``, which takes so much ``more`` to make."""
    time, money = total(planned.time, more), total(planned.money, money_estimate(inputs, more))
    return planned.model_copy(update={"time": time, "money": money, "energy": energy_estimate(inputs, time)})


def by_ranker(inputs: PlanInputs, planned: RungPlan, queries: int) -> RungPlan:
    """``planned`` with the encoder that finds its passages: the one that is installed, or that of the release which the objective names,
    with what it takes to read them, and to find those of ``queries`` and of 1,000 requests."""
    ranker = inputs.ranker
    tokens = inputs.documents * inputs.document_tokens
    if ranker is None:
        parameters = backbone_parameters(inputs.encoder) if inputs.encoder else 0
        return with_index(inputs, planned, parameters, tokens).model_copy(update={"encoder": inputs.encoder_tree})
    planned = with_index(inputs, planned, ranker.parameters if ranker.encoder else 0, tokens)
    planned = with_seconds(inputs, planned, lookup_seconds(inputs, queries))
    asked, update = money_estimate(inputs, lookup_seconds(inputs, 1000)), {"encoder": ranker.encoder}
    serving = total(planned.serving_cost, asked) if planned.serving_cost else asked
    return planned.model_copy(update=update | {"ranker": ranker, "serving_cost": serving})


GIB = 2**30

#: GiB of the interpreter, its libraries and the tokenizer, before any model; on a GPU of its context.
PROCESS_GIB = 0.47
#: What allocators and copies take beside what is counted, as multiples of it, and GiB whatever the pass. Measured on two CPU cores.
CPU_KEPT, GPU_KEPT, CPU_BESIDE = 1.35, 1.1, 0.15
#: The same beside what was counted tensor by tensor; where there are experts, whose tensors are of another size in each pass.
CPU_COUNTED, CPU_EXPERTS = 1.03, 1.3
#: The ends of the interval, without and with timed steps.
GUESSED, TIMED_MEMORY = (0.80, 1.30), (0.92, 1.10)
#: Bytes of a weight in 4-bit NormalFloat: blocks of 64 share a scale of 8 bits, 256 of those another one (arXiv 2305.14314, §3).
NF4_BYTES = 0.516
#: Answer tokens whose logits exist at once, tokens of an attention group, and probabilities of a layer that are kept for the backward pass:
#: those of the loop.
LOGIT_ROWS, GROUP_TOKENS, KEPT_PROBABILITIES = 256, 96, 8 * 2**20
#: Bytes of a logit that the model itself makes: a cap's output and product, log-probabilities and their gradient in fp32, and one over.
OWN_LOGIT = 17


@dataclass(frozen=True)
class MemoryHeld:
    """Bytes: ``weights``, frozen and trained, and ``moments`` between steps, ``kept`` by the longest pass, ``beside`` it while it runs,
    ``gradients`` (beside it, too, where a step takes ``several`` passes), and what the ``update`` takes beside these."""

    weights: float
    moments: float
    kept: float
    beside: float
    gradients: float
    update: float
    several: bool

    @property
    def still(self) -> float:
        """Bytes between steps."""
        return self.weights + self.moments


def training_memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """GiB of the whole process at its highest."""
    timed = inputs.timed(settings)
    if timed is None:
        return around(guessed_memory(inputs, settings), GUESSED, "GiB")
    # What was measured, moved from the timed settings and passes to these: GiB.
    held = _held(inputs, settings, longest_pass(inputs, settings))
    seen = [(_held(inputs, timed.settings, one.tokens, one.answers, passes=1), one.peak_gb * GIB) for one in timed.passes]
    small, large = seen[0], seen[-1]
    grown = large[0].kept - small[0].kept
    slack = (large[1] - small[1] - (large[0].beside - small[0].beside)) / grown if grown > 0 else _slack(inputs, timed.settings)
    slack = min(2.0, max(0.9, slack))
    # What neither weights nor a pass explain: libraries, allocators.
    rest = large[1] - _highest(large[0], slack)
    return around(((rest + _highest(held, slack)) / GIB), TIMED_MEMORY, "GiB")


def guessed_memory(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """GiB that a training likely takes, by formula."""
    held = _held(inputs, settings, longest_pass(inputs, settings))
    beside = 0.0 if inputs.machine.gpus else CPU_BESIDE
    return PROCESS_GIB + beside + _highest(held, _slack(inputs, settings)) / GIB


def grown_memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """GiB that the process grows by from before the model is read: the whole less the process itself."""
    timed, whole = inputs.timed(settings), training_memory(inputs, settings)
    start = timed.process_gb if timed else PROCESS_GIB
    return interval([max(0.0, end - start) for end in (whole.low, whole.likely, whole.high)], "GiB")


def _slack(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """What the allocator adds to what a pass keeps, as a multiple of it."""
    if inputs.machine.gpus:
        return GPU_KEPT
    if _counted(inputs, settings) is None:
        return CPU_KEPT
    return CPU_EXPERTS if _has_experts(inputs.base) else CPU_COUNTED


def _highest(held: MemoryHeld, slack: float) -> float:
    return held.still + max(slack * held.kept + held.beside + held.gradients * held.several, held.gradients + held.update)


def _held(
    inputs: PlanInputs, settings: TrainingSettings, tokens: float, answers: float | None = None, passes: int | None = None
) -> MemoryHeld:
    base, wide = inputs.base, 2 if settings.precision == "bf16" else 4
    answers = _most_answers(inputs, tokens) if answers is None else answers
    several = (passes_of(inputs, settings, settings.batch_size) if passes is None else passes) > 1
    logits = base.vocabulary * (OWN_LOGIT * answers if _has_own_logits(base) else min(LOGIT_ROWS, answers) * wide * 2)
    kept = _kept(inputs, settings, tokens) + _probabilities(inputs, tokens, wide)
    passing = 6 * tokens * wide * base.intermediate + _compiled(inputs, settings)
    if settings.lora:
        trained = 4.0 * adapter_parameters(base, settings.lora)
        # Bytes of the adapter's factors in the type they are multiplied in.
        assert settings.lora is not None
        rank = settings.lora.rank
        groups = [group for group in inputs.base.linear_groups if group.name in settings.lora.targets]
        beside = logits + passing + float(sum(group.count * rank * (group.inputs + group.outputs) for group in groups) * wide)
        return MemoryHeld(_frozen(inputs, settings, wide) + trained, 2 * trained, kept, beside, trained, 0.0, several)
    trained, copies = 4.0 * base.parameters, 2 * base.parameters if wide == 2 else 0
    head = 4 * base.vocabulary * base.hidden
    return MemoryHeld(trained, 2 * trained, kept, logits + passing + copies + head, trained, head, several)


def _has_experts(base: BaseModelRef) -> bool:
    return base.anatomy is not None and base.anatomy.experts is not None


def _compiled(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """Bytes of compiled products: an expert meets another number of tokens in each pass, so that the cache of a library for processors is
    full. What those of layers without experts take lies within ``CPU_BESIDE``."""
    full = settings.precision == "bf16" and _has_experts(inputs.base) and not inputs.machine.gpus
    return KEPT_PRIMITIVES * PRIMITIVE_MIB * 2**20 if full else 0.0


def _has_own_logits(base: BaseModelRef) -> bool:
    """True where the model makes its logits by more than its head, so that those of a whole pass are held at once."""
    return base.anatomy is not None and base.anatomy.own_logits


def _most_answers(inputs: PlanInputs, tokens: float) -> float:
    """Answer tokens of the longest pass; where all their logits are held, no fewer than those of the longest answer."""
    mean = tokens * inputs.tokens.learned_mean / own_tokens(inputs)
    return max(mean, inputs.tokens.target_max) if _has_own_logits(inputs.base) else mean


def _kept(inputs: PlanInputs, settings: TrainingSettings, tokens: float) -> float:
    """Bytes that all layers keep of a pass: as counted on the model's own pass, where that one runs, or by formula."""
    counted = _counted(inputs, settings)
    if counted is None:
        return tokens * inputs.base.layers * _bytes_kept(inputs, settings)
    low = settings.lora.rank * _adapted_layers(inputs.base, settings) if settings.lora else 0
    longest = tokens if inputs.tokens.layout == "single" else laid_out_tokens(inputs, settings.batch_size, 1)
    wide = 2 if settings.precision == "bf16" else 4
    return tokens * (counted.token + counted.pair * min(tokens, longest) + wide * low)


def _counted(inputs: PlanInputs, settings: TrainingSettings) -> SavedActivations | None:
    """None where nothing was counted."""
    base = inputs.base
    if base.anatomy is None:
        return None
    wanted = ("packed" if inputs.tokens.layout == "packed" else "padded", "adapter" if settings.lora else "full", settings.precision)
    return next((one for one in base.anatomy.saved if (one.layout, one.trained, one.precision) == wanted), None)


def _adapted_layers(base: BaseModelRef, settings: TrainingSettings) -> int:
    """Layers that have an adapter."""
    assert settings.lora is not None
    return sum(group.count for group in base.linear_groups if group.name in settings.lora.targets)


def _bytes_kept(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """Bytes that a layer keeps a token: the residual stream at each norm, what the projections read and gave, queries, keys and values
    after their rotation, what the gate read and gave; low-rank products; what the experts that a token meets read and gave. What a norm
    reads is kept in fp32, and the product of gate and input where the layer that reads it learns."""
    base, wide = inputs.base, 2 if settings.precision == "bf16" else 4
    queries = _query_width(base)
    groups = base.linear_groups
    given = sum(group.count * group.outputs for group in groups) / base.layers - 2 * base.hidden
    # Of layers that do not read the stream; attention's output is as wide as the queries.
    read = sum(group.count * group.inputs for group in groups if group.inputs != base.hidden) / base.layers
    read += base.hidden if queries == base.hidden else 0
    normalised = (base.anatomy.normalised / base.layers if base.anatomy else 0) or 2 * base.hidden
    gated = _products_read(base, settings, queries)
    low = len(settings.lora.targets) * settings.lora.rank if settings.lora else 0
    return 4 * normalised + wide * (2 * base.hidden + max(0.0, given) + read + gated + low + _experts_kept(base))


def _products_read(base: BaseModelRef, settings: TrainingSettings, queries: int) -> float:
    """Numbers that learning layers read which are neither the stream nor attention's output: the product of gate and input."""
    learning = [group for group in base.linear_groups if settings.lora is None or group.name in settings.lora.targets]
    read = sum(group.count * group.inputs for group in learning if group.inputs not in (base.hidden, queries))
    return read / base.layers


def _experts_kept(base: BaseModelRef) -> float:
    """Numbers that the experts of a layer keep a token: gate, input and their product of each that it meets, and what each gave."""
    experts = base.anatomy.experts if base.anatomy else None
    if experts is None:
        return 0.0
    return experts.parameters * experts.active / experts.experts / base.layers / base.hidden + experts.active * base.hidden


def _probabilities(inputs: PlanInputs, tokens: float, wide: int) -> float:
    """Bytes of attention probabilities that all layers keep; none on a GPU, whose kernels keep none, and where a layer's are too many, and
    computed again."""
    if inputs.machine.gpus or inputs.tokens.layout != "packed":
        return 0.0
    base, prefix = inputs.base, inputs.tokens.shared_prefix
    heads = _query_width(base) / (inputs.base.head_width or (64 if inputs.base.hidden < 2560 else 128))
    row = max(own_tokens(inputs), GROUP_TOKENS)
    pairs = max(0.0, tokens - prefix) * (prefix + row) + prefix * (prefix + 192) / 2
    return base.layers * wide * heads * pairs if heads * pairs <= KEPT_PROBABILITIES else 0.0


def _query_width(base: BaseModelRef) -> int:
    """Numbers of all query heads of a token; of a model without attention the width of its stream."""
    if base.anatomy is not None:
        return base.anatomy.heads * base.anatomy.head_width or base.hidden
    return base.linear_shapes["q_proj"][1]


def _key_width(base: BaseModelRef) -> int:
    """Numbers of all key heads of a token; of an encoder, the width of its stream."""
    if base.anatomy is not None:
        return base.anatomy.key_heads * base.anatomy.head_width or base.hidden
    return base.linear_shapes.get("k_proj", (0, base.hidden))[1]


def _frozen(inputs: PlanInputs, settings: TrainingSettings, wide: int) -> float:
    """Bytes of the frozen weights: embeddings and head are never quantised."""
    base, backbone = inputs.base, linear_parameters(inputs.base)
    if settings.method != "qlora":
        return base.parameters * wide
    largest = max((group.inputs * group.outputs for group in base.linear_groups), default=0)
    return (base.parameters - backbone) * wide + backbone * NF4_BYTES + largest * wide


def longest_pass(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """Tokens of the longest pass of the run: full up to the budget where a batch takes several; the longest batch where it takes one; the
    longest row where each is alone.

    The sum of a batch's rows spreads by √batch · sd, and the longest of n batches lies about √(2 ln n) of that above the mean.
    """
    tokens, own = inputs.tokens, own_tokens(inputs)
    if tokens.layout == "single":
        return tokens.prompt_max + tokens.target_max
    spread = math.sqrt(2 * math.log(max(2, steps_of(inputs, settings)))) * tokens.row_sd * math.sqrt(settings.batch_size)
    rows = min(settings.batch_size, inputs.train_rows)
    if tokens.layout == "padded":
        own = laid_out_tokens(inputs, rows, passes_of(inputs, settings, rows))
        spread = 0.0
    batch = prefix_of(tokens) + rows * own + spread
    full = max(settings.token_budget - own / 4, settings.token_budget / 2) if batch > settings.token_budget else batch
    return max(full, tokens.prompt_max + tokens.target_max if tokens.prompt_max + tokens.target_max > settings.token_budget else 0)


def prompt_memory(inputs: PlanInputs, shots: int) -> Estimate:
    """GiB of the whole process while a batch of prompts is scored: weights, keys and values, one layer's activations, label logits."""
    base = inputs.base
    wide = 2 if inputs.machine.fast_bf16 else 4
    tokens = 32 * (inputs.tokens.prompt_p95 + inputs.tokens.label_list) + shots * demonstration_tokens(inputs)
    held = tokens * wide * (2 * _key_width(base) * base.layers + 4 * base.hidden + 3 * base.intermediate)
    return around(PROCESS_GIB + (base.parameters * wide + held + 4 * base.vocabulary * 512) / GIB, GUESSED, "GiB")


#: Share of a machine's memory that one process may take when the budget says ``auto``.
FREE = 0.9


def limit_of(budget: Budget, machine: Machine) -> float:
    """GiB that one process may take: what the budget says, and never more than the machine leaves it."""
    free = FREE * machine.memory_gb
    return free if budget.memory_gb == "auto" else min(budget.memory_gb, free)


def suggest_machine(memory_gb: float) -> str:
    """The memory of a machine on which a process of ``memory_gb`` GiB fits."""
    return f"use a machine with {memory_gb / FREE:.0f} GiB"
