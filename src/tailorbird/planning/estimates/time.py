"""How long a rung takes to train.

In: ``PlanInputs``, settings. Out: seconds as intervals. Must not know: budgets.

Without timed steps: FLOPs / (measured matmul rate x the share of it that is reached) + bytes moved / bandwidth, for on a processor that
multiplies fast what lies between the products takes as long as they do. With timed steps: seconds a FLOP and seconds a pass, fitted to a
small and a large pass; the update by the weights it touches; checkpoints by the bytes they write; times what finished trainings on this
machine took of their estimates.
"""

from __future__ import annotations

from tailorbird.domain.calibration import Calibration
from tailorbird.domain.plan import Estimate, TrainingSettings
from tailorbird.planning.estimates.interval import around, interval, total
from tailorbird.planning.estimates.scoring import bandwidths, measured_rows, rates, scoring_seconds
from tailorbird.planning.estimates.work import (
    Work,
    batch_of,
    forward_flops,
    held_out_of,
    looks_of,
    passes_of,
    step_flops,
    steps_of,
    training_flops,
)
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.sizes import adapter_parameters, held_out_rows

#: Share of the measured matmul rate that the products reach: at best, usually, at worst.
TRAINING_RATE = (0.60, 0.45, 0.30)
#: How often an activation is written and read, forward and backward.
TRAINING_MOVES = 6
#: What making the frozen weights anew for each product adds to the time of a pass (measured: one in eight).
NF4_TIME = 1.15
#: Seconds to load the model and write the result, without timed steps.
START_SECONDS = (2.0, 5.0, 20.0)
#: The ends of the interval with timed steps; and where other processes wanted the cores while they were timed.
TIMED, LOADED = (0.85, 1.25), (0.6, 1.6)


def training_time(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """Seconds to train a candidate and to measure it on dev."""
    timed = inputs.timed(settings)
    start = around(timed.read_seconds, _ends(timed), "s") if timed else interval(START_SECONDS, "s")
    measured = interval(scoring_seconds(inputs, 0, measured_rows(inputs)), "s")
    return total(start, loop_time(inputs, settings), measured)


def loop_time(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """Seconds of the loop alone: steps, held-out looks, checkpoints."""
    timed = inputs.timed(settings)
    if timed is None:
        return interval(_guessed_loop(inputs, settings), "s")
    return around(timed.correction * _timed_loop(inputs, settings, timed), _ends(timed), "s")


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
    looking_passes = passes_of(inputs, settings, held_out_rows(inputs.manifest.counts.train))
    look = looking_passes * look_seconds + per_forward_flop * forward_flops(inputs, looked)
    looks = looks_of(settings)
    # Weights and moments with each look, the best weights apart with the better ones; before the first step there are no moments.
    written = (looks * (12 + 4) - 8) * trained / (1e6 * timed.write_mb_s)
    return steps_of(inputs, settings) * step + timed.moments_seconds * as_many + looks * look + written


def _fitted(inputs: PlanInputs, timed: Calibration, *, forward: bool) -> tuple[float, float]:
    """Seconds a pass takes whatever its length, and seconds a FLOP: the line through a small and a large pass, neither below zero."""
    points = []
    for one in timed.passes:
        work = Work(one.tokens, one.pairs, one.answers)
        flops = forward_flops(inputs, work) if forward else step_flops(inputs, timed.settings.lora, work)
        points.append((flops, one.forward_seconds if forward else one.seconds))
    (small, small_seconds), (large, large_seconds) = points[0], points[-1]
    slope = (large_seconds - small_seconds) / (large - small) if large > small else 0.0
    if slope <= 0 or small_seconds - slope * small < 0:
        return 0.0, large_seconds / large
    return small_seconds - slope * small, slope


def _guessed_loop(inputs: PlanInputs, settings: TrainingSettings) -> list[float]:
    machine, work = inputs.machine, batch_of(inputs, settings)
    wide, gflops = (2, machine.bf16_gflops) if settings.precision == "bf16" else (4, machine.fp32_gflops)
    moved = steps_of(inputs, settings) * work.tokens * TRAINING_MOVES * 17 * wide * inputs.base.hidden * inputs.base.layers
    slower = NF4_TIME if settings.method == "qlora" else 1.0
    speeds = zip(rates(inputs, gflops, TRAINING_RATE), bandwidths(inputs), strict=True)
    return [slower * (training_flops(inputs, settings) / rate + moved / bandwidth) for rate, bandwidth in speeds]
