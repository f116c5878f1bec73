"""Estimates of training time, scoring time, money and energy, and of the cost of 1,000 requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import ExpectedTraffic, Objective
from tailorbird.domain.plan import Estimate, Flip, Plan, PlannedTraffic, Prices, Reason, RungPlan, TrainingSettings
from tailorbird.domain.timing import Calibration
from tailorbird.domain.value import Digest
from tailorbird.planning.flops import (
    FlopsWork,
    adapter_parameters,
    batch_of,
    forward_flops,
    held_out_of,
    held_out_rows,
    looks_of,
    passes_of,
    step_flops,
    steps_of,
    suffix_tokens,
    training_flops,
    work_of,
)
from tailorbird.planning.inputs import PlanInputs, TrainingWork
from tailorbird.planning.setting_rules import demonstration_tokens


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


#: Volumes a month beyond which nobody is told of a flip.
_MOST = 1e12


def order_rungs(plan: Plan, objective: Objective) -> Plan:
    """``plan`` with each rung's total, in the order of the totals, with the flips. A rung that costs more to make than one behind it says
    why it stands there.

    Rungs of one base model that cost the same to ask keep the order in which they stand in ``plan``: the climb's refusals rest on it.
    """
    traffic = objective.expected_traffic
    keyed = sorted(_keyed(plan.rungs, traffic), key=lambda one: one.key)
    rungs = _indexed_once([_told(place, keyed, traffic) for place, _ in enumerate(keyed)], plan.prices)
    planned = PlannedTraffic(per_month=traffic.per_month, horizon_months=traffic.horizon_months, assumed=objective.traffic is None)
    flips = tuple(sorted(_flips(keyed, traffic), key=lambda flip: (flip.per_month, flip.below, flip.above)))
    return plan.model_copy(update={"rungs": rungs, "traffic": planned, "flips": flips})


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
            _times(index, each, unit) for each, unit in ((prices.per_second, prices.currency), (prices.kilowatts / 3600, "kWh"))
        )
        less = {"time": _less(rung.time, index), "money": _less(rung.money, money), "index_time": None}
        more = {"energy": _less(rung.energy, energy) if rung.energy else None, "total": _less(rung.total, money) if rung.total else None}
        found.append(rung.model_copy(update=less | more))
    return tuple(found)


def _times(estimate: Estimate, factor: float, unit: str) -> Estimate:
    return interval([factor * end for end in _spread(estimate)], unit)


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
    flip = _flip(nearest, one, traffic)
    below = f"; below {flip.per_month:,.0f} requests a month it would stand behind it" if flip else ""
    text = (
        f"stands before {nearest.name}, although making it costs {more:.2g} {rung.money.unit} more: "
        f"{traffic.requests:,.0f} requests cost {less:.2g} less{below}"
    )
    return rung.model_copy(update={"reasons": (*rung.reasons, Reason(rule="traffic", text=text, source="docs/decisions/0050"))})


def _flips(keyed: Sequence[_Keyed], traffic: ExpectedTraffic) -> Iterator[Flip]:
    for place, one in enumerate(keyed):
        for other in keyed[place + 1 :]:
            dearer_to_ask, cheaper_to_ask = (one, other) if _asking(one.rung).likely > _asking(other.rung).likely else (other, one)
            if flip := _flip(dearer_to_ask, cheaper_to_ask, traffic):
                yield flip


def _flip(below: _Keyed, above: _Keyed, traffic: ExpectedTraffic) -> Flip | None:
    """Where ``above``, which costs less to ask and more to make, comes to cost less in all; None where there is no such volume.

    The ends of making are taken apart, since one may be timed and the other not; those of asking together, since both are asked on the same
    machine, at one rate.
    """
    months = traffic.horizon_months / 1000
    more = above.making.likely - below.making.likely
    asked = [low - high for low, high in zip(_spread(_asking(below.rung)), _spread(_asking(above.rung)), strict=True)]
    if more <= 0 or asked[1] <= 0 or not more / (months * asked[1]) <= _MOST:
        return None
    least, most = max(0.0, above.making.low - below.making.high), above.making.high - below.making.low
    high = most / (months * min(asked)) if min(asked) > 0 else None
    return Flip(
        below=below.name,
        above=above.name,
        per_month=more / (months * asked[1]),
        low=least / (months * max(asked)),
        high=high if high is not None and high <= _MOST else None,
    )


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
#: Shares of the maker's memory bandwidth of a GPU, where it is known: at best, usually, at worst. Assumed, not measured.
BANDWIDTH_SHARE = (0.75, 0.4, 0.2)
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


def search_time(inputs: PlanInputs, shots: int, calls: int) -> Estimate:
    """Seconds of a prompt's search with so many ``calls``, and to measure what it found on dev. Thresholds are chosen by answers that it
    has."""
    searched = scoring_seconds(inputs, shots, calls, prompts=SEARCHED_PROMPTS)
    seconds = zip(START_SECONDS, searched, scoring_seconds(inputs, shots, inputs.dev_rows), strict=True)
    return interval([sum(each) for each in seconds], "s")


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
    shared = tokens.shared_prefix + tokens.listed + shots * demonstration_tokens(inputs)
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


def rates(inputs: TrainingWork, gflops: float, reached: tuple[float, float, float]) -> list[float]:
    """FLOP/s at best, usually, at worst."""
    return [1e9 * share * (gflops or _UNMEASURED_GFLOPS * inputs.machine.cores) for share in reached]


def bandwidths(inputs: TrainingWork, on_cpu: tuple[float, float, float]) -> list[float]:
    """Bytes a second at best, usually, at worst."""
    machine = inputs.machine
    if machine.bandwidth_gbs:
        return [1e9 * share * machine.bandwidth_gbs for share in BANDWIDTH_SHARE]
    return [1e9 * moved for moved in (GPU_BANDWIDTH if machine.gpus else on_cpu)]


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
        return interval(_guessed_loop(inputs, settings), "s")
    return around(_timed_loop(inputs, settings, timed), _ends(timed), "s")


def _ends(timed: Calibration) -> tuple[float, float]:
    return LOADED if timed.loaded else TIMED


def _timed_loop(inputs: PlanInputs, settings: TrainingSettings, timed: Calibration) -> float:
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
    return steps_of(inputs, settings) * step + timed.moments_seconds * as_many + looks * look + written


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


def _guessed_loop(inputs: PlanInputs, settings: TrainingSettings) -> list[float]:
    tokens = steps_of(inputs, settings) * batch_of(inputs, settings).tokens
    return _guessed_seconds(inputs, settings, training_flops(inputs, settings), tokens)


def _guessed_seconds(inputs: TrainingWork, settings: TrainingSettings, flops: float, tokens: float) -> list[float]:
    """Seconds of ``flops`` of training over ``tokens`` tokens, by formula."""
    machine = inputs.machine
    wide, gflops = (2, machine.bf16_gflops) if settings.precision == "bf16" else (4, machine.fp32_gflops)
    moved = tokens * TRAINING_MOVES * 17 * wide * inputs.base.hidden * inputs.base.layers
    slower = NF4_TIME if settings.method == "qlora" else 1.0
    speeds = zip(rates(inputs, gflops, TRAINING_RATE), bandwidths(inputs, TRAINING_BANDWIDTH), strict=True)
    return [slower * (flops / rate + moved / bandwidth) for rate, bandwidth in speeds]


def training_rate(inputs: TrainingWork, settings: TrainingSettings) -> Estimate:
    """Tokens a second of an optimiser step, by formula."""
    work = batch_of(inputs, settings)
    seconds = _guessed_seconds(inputs, settings, step_flops(inputs, settings.lora, work), work.tokens)
    return interval([work.tokens / each for each in reversed(seconds)], "tokens/s")


def money_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """What the time costs at the machine's price, and its energy where that is paid apart."""
    prices, price = inputs.prices, inputs.prices.per_second
    return interval([time.low * price, time.likely * price, time.high * price], prices.currency)


def energy_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """kWh at the power that the machine draws while it works."""
    kilowatts = inputs.prices.kilowatts / 3600
    return interval([time.low * kilowatts, time.likely * kilowatts, time.high * kilowatts], "kWh")


def serving_estimate(inputs: PlanInputs, shots: int, looked_up: float = 0.0) -> Estimate:
    """What 1,000 requests cost that come one by one: the machine's time for each. What all of them share, demonstrations too, is computed
    once and kept; the ``looked_up`` tokens of each are its own. An adapter's own products are left out: it can be merged."""
    low, likely, high = scoring_seconds(inputs, shots, 1000, alone=True, looked_up=looked_up)
    return money_estimate(inputs, Estimate(low=low, likely=likely, high=high, unit="s"))
