"""How long answering takes: rows scored or answered by the engine.

In: ``PlanInputs``, rows. Out: seconds at best, usually, at worst. Must not know: training, budgets.
"""

from __future__ import annotations

from tailorbird.domain.plan import Estimate
from tailorbird.planning.estimates.interval import interval
from tailorbird.planning.estimates.work import forward_flops, work_of
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.rules import demonstration_tokens
from tailorbird.planning.sizes import held_out_rows, suffix_tokens

#: Share of the measured matmul rate that the products reach: at best, usually, at worst. Scoring comes in smaller pieces than training.
SCORING_RATE = (0.60, 0.40, 0.10)
#: GB/s that everything else moves its bytes at, on a CPU and on a GPU.
CPU_BANDWIDTH, GPU_BANDWIDTH = (10.0, 5.0, 2.5), (1500.0, 800.0, 400.0)
#: How often an activation is written and read, forward.
FORWARD_MOVES = 2
#: Seconds to load the model.
START_SECONDS = (2.0, 5.0, 20.0)
#: Demonstration sets that the few-shot rung tries, and training rows it scores each on.
FEW_SHOT_DRAWS, FEW_SHOT_ROWS = 3, 48
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
    counts, many = inputs.manifest.counts, inputs.objective.task.labels == "many"
    return counts.dev + (held_out_rows(counts.train) if many else 0)


def scoring_seconds(inputs: PlanInputs, shots: int, rows: int, *, alone: bool = False, looked_up: float = 0.0) -> list[float]:
    """Seconds to answer ``rows`` messages: what they share is computed once and kept, and every pass reads all weights.

    ``alone``: each comes by itself, as requests do. ``looked_up`` counts the tokens that are looked up for each row: no two share them.
    """
    tokens, machine = inputs.tokens, inputs.machine
    shared = tokens.shared_prefix + tokens.label_trie + shots * demonstration_tokens(inputs)
    answer = tokens.label_trie or tokens.target_mean
    work = work_of(rows, suffix_tokens(tokens) + looked_up + answer, shared, 1, answer)
    single = rows if alone else min(rows, TIMED_ROWS)
    # A generated token is a pass of its own; labels are scored in one.
    passes = single * (1 if tokens.label_trie else tokens.target_mean) + (rows - single) / BATCHED_ROWS
    wide, gflops = (2, machine.bf16_gflops) if machine.fast_bf16 else (4, machine.fp32_gflops)
    moved = work.tokens * FORWARD_MOVES * 17 * wide * inputs.base.hidden * inputs.base.layers + passes * inputs.base.parameters * wide
    speeds = zip(rates(inputs, gflops, SCORING_RATE), bandwidths(inputs), strict=True)
    return [forward_flops(inputs, work) / rate + moved / bandwidth for rate, bandwidth in speeds]


def rates(inputs: PlanInputs, gflops: float, reached: tuple[float, float, float]) -> list[float]:
    """FLOP/s at best, usually, at worst."""
    return [1e9 * share * (gflops or _UNMEASURED_GFLOPS * inputs.machine.cores) for share in reached]


def bandwidths(inputs: PlanInputs) -> list[float]:
    """Bytes a second at best, usually, at worst."""
    return [1e9 * moved for moved in (GPU_BANDWIDTH if inputs.machine.gpus else CPU_BANDWIDTH)]
