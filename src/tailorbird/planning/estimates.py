"""What a rung will take: time, memory, money, each as an interval.

In: ``PlanInputs`` and a rung's settings. Out: ``Estimate`` values (time in seconds, memory in GiB of the whole process). Must not know:
budgets, the order of rungs.

Time = FLOPs / (measured matmul rate x the share of it that is reached) + bytes moved / bandwidth: on a processor that multiplies fast,
what lies between the products takes as long as they do. FLOPs a token: full 6 N + 6 V h f, LoRA 4 N + 6 P + 4 V h f, a forward pass 2 N,
with N the weights of the linear layers, P those of the adapter, V h the head, f the share of tokens that bear loss; attention adds 4 h L a
(query, key) pair forward and twice that backward (Kaplan 2020, arXiv 2001.08361; the LoRA count after Schulman et al. 2025). Memory =
weights + gradients and optimiser + activations (34 bytes x T h L in 2-byte precision, Korthikanti 2022, arXiv 2205.05198) + the inputs
that adapters keep + logits of the answer tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tailorbird.domain.plan import Estimate, LoraSettings, TrainingSettings
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.rules import demonstration_tokens
from tailorbird.planning.sizes import HELD_OUT, adapter_parameters, backbone_parameters, suffix_tokens

GIB = 2**30

#: Share of the measured matmul rate that the products reach: at best, usually, at worst. Scoring comes in smaller pieces than training.
TRAINING_RATE = (0.60, 0.45, 0.30)
SCORING_RATE = (0.60, 0.40, 0.10)
#: GB/s that everything else moves its bytes at, on a CPU and on a GPU.
CPU_BANDWIDTH, GPU_BANDWIDTH = (10.0, 5.0, 2.5), (1500.0, 800.0, 400.0)
#: How often an activation is written and read: forward; forward and backward.
FORWARD_MOVES, TRAINING_MOVES = 2, 6
#: Seconds to load the model and write the result.
START_SECONDS = (2.0, 5.0, 20.0)
#: GiB of the interpreter and its libraries, before any model.
PROCESS_GIB = 0.5
#: What a pass over tokens takes, as multiples of the formula. A CPU keeps more fp32 copies than the GPU kernels that the formula describes.
CPU_SPREAD, GPU_SPREAD = (0.9, 1.4, 1.9), (0.9, 1.0, 1.2)
#: Bytes of a weight in 4-bit NormalFloat: blocks of 64 share a scale of 8 bits, 256 of those another one (arXiv 2305.14314, §3).
NF4_BYTES = 0.516
#: What making the frozen weights anew for each product adds to the time of a pass (measured: one in eight).
NF4_TIME = 1.15
#: Demonstration sets that the few-shot rung tries, and training rows it scores each on.
FEW_SHOT_DRAWS, FEW_SHOT_ROWS = 3, 48
#: Rows scored one by one for their latency before the rest is batched, and rows a batch.
TIMED_ROWS, BATCHED_ROWS = 80, 32
#: A rate for machines that were not measured, GFLOP/s a core.
_UNMEASURED_GFLOPS = 10.0


@dataclass(frozen=True)
class Work:
    """What rows make a model compute: ``tokens``, (query, key) ``pairs`` of attention, and ``answers``, the tokens that meet the head."""

    tokens: float
    pairs: float
    answers: float


def work_of(rows: float, own: float, prefix: float, passes: float, answers: float) -> Work:
    """``rows`` of ``own`` tokens each behind a prefix that is computed once in each of ``passes``; each row has ``answers`` answer tokens.

    A token attends to the prefix and to the earlier tokens of its own row.
    """
    pairs = passes * prefix * (prefix + 1) / 2 + rows * (own * prefix + own * (own + 1) / 2)
    return Work(tokens=passes * prefix + rows * own, pairs=pairs, answers=rows * answers)


def batch_of(inputs: PlanInputs, settings: TrainingSettings) -> Work:
    """One step's batch of mean rows, packed."""
    prefix, target = inputs.tokens.shared_prefix, inputs.tokens.target_mean
    own = suffix_tokens(inputs.tokens) + target
    passes = math.ceil(settings.batch_size * own / max(1, settings.token_budget - prefix))
    return work_of(settings.batch_size, own, prefix, passes, target)


def training_flops(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """FLOPs of all optimiser steps and of the held-out evaluations between them."""
    work = batch_of(inputs, settings)
    looks = settings.epochs * settings.evaluations_per_epoch * math.ceil(inputs.manifest.counts.train * HELD_OUT / settings.batch_size)
    return _steps(inputs, settings) * _step_flops(inputs, settings.lora, work) + looks * _forward_flops(inputs, work)


def _steps(inputs: PlanInputs, settings: TrainingSettings) -> int:
    return settings.epochs * math.ceil(inputs.manifest.counts.train * (1 - HELD_OUT) / settings.batch_size)


def training_time(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """Seconds to train a candidate and to measure it on dev."""
    machine, work = inputs.machine, batch_of(inputs, settings)
    gflops = machine.bf16_gflops if settings.precision == "bf16" else machine.fp32_gflops
    moved = _steps(inputs, settings) * work.tokens * TRAINING_MOVES * _activation_bytes(inputs, 2 if settings.precision == "bf16" else 4)
    rates = zip(_rates(inputs, gflops, TRAINING_RATE), _bandwidths(inputs), strict=True)
    slower = NF4_TIME if settings.method == "qlora" else 1.0
    trained = [slower * (training_flops(inputs, settings) / rate + moved / bandwidth) for rate, bandwidth in rates]
    return _seconds(trained, _scoring_seconds(inputs, 0, inputs.manifest.counts.dev))


def prompt_time(inputs: PlanInputs, shots: int) -> Estimate:
    """Seconds to choose demonstrations, where there are any, and to measure the prompt on dev."""
    rows = inputs.manifest.counts.dev + (FEW_SHOT_DRAWS * FEW_SHOT_ROWS if shots else 0)
    return _seconds(_scoring_seconds(inputs, shots, rows))


def training_memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """GiB of the whole process while the largest pack is in it.

    A trained weight costs 20 bytes: itself, its gradient, two moments and the copy of the best checkpoint, all fp32; a frozen one its
    own width, or 4.13 bits with qlora, where one layer at a time is widened.
    """
    base, tokens = inputs.base, _largest_pack(inputs, settings)
    wide = 2 if settings.precision == "bf16" else 4
    if settings.lora:
        weights = _frozen(inputs, settings, wide) + adapter_parameters(base, settings.lora) * 20
        kept = _adapter_inputs(inputs, settings.lora, tokens)
    else:
        # Multiplying fp32 weights in bf16 keeps a bf16 copy of them for the backward pass.
        weights, kept = base.parameters * (22 if wide == 2 else 20), 0
    activations = tokens * _activation_bytes(inputs, wide)
    logits = 3 * 4 * base.vocabulary * _most_answers(inputs, tokens)
    return _memory(inputs, weights, kept + activations + logits)


def _frozen(inputs: PlanInputs, settings: TrainingSettings, wide: int) -> float:
    """Bytes of the frozen weights: embeddings and head are never quantised."""
    base, backbone = inputs.base, backbone_parameters(inputs.base)
    if settings.method != "qlora":
        return base.parameters * wide
    largest = max(rows * columns for rows, columns in base.linear_shapes.values())
    return (base.parameters - backbone) * wide + backbone * NF4_BYTES + largest * wide


def prompt_memory(inputs: PlanInputs, shots: int) -> Estimate:
    """GiB of the whole process while a batch of prompts is scored: weights, keys and values, one layer's activations, label logits."""
    base = inputs.base
    wide = 2 if inputs.machine.fast_bf16 else 4
    tokens = 32 * (inputs.tokens.prompt_p95 + inputs.tokens.label_trie) + shots * demonstration_tokens(inputs)
    held = tokens * wide * (2 * base.hidden * base.layers + 4 * base.hidden + 3 * base.intermediate)
    return _memory(inputs, base.parameters * wide, held + 4 * base.vocabulary * 512)


def money_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """What the time costs at the machine's price."""
    price = inputs.prices.per_hour / 3600
    return _interval([time.low * price, time.likely * price, time.high * price], inputs.prices.currency)


def _step_flops(inputs: PlanInputs, adapter: LoraSettings | None, work: Work) -> float:
    base, backbone = inputs.base, backbone_parameters(inputs.base)
    head, attention = base.vocabulary * base.hidden * work.answers, 12 * base.hidden * base.layers * work.pairs
    if adapter is None:
        return 6 * backbone * work.tokens + 6 * head + attention
    return (4 * backbone + 6 * adapter_parameters(base, adapter)) * work.tokens + 4 * head + attention


def _forward_flops(inputs: PlanInputs, work: Work) -> float:
    base = inputs.base
    head, attention = base.vocabulary * base.hidden * work.answers, 4 * base.hidden * base.layers * work.pairs
    return 2 * backbone_parameters(base) * work.tokens + 2 * head + attention


def _scoring_seconds(inputs: PlanInputs, shots: int, rows: int) -> list[float]:
    """Seconds to answer ``rows`` messages: what they share is computed once and kept, and every pass reads all weights."""
    tokens, machine = inputs.tokens, inputs.machine
    shared = tokens.shared_prefix + tokens.label_trie + shots * demonstration_tokens(inputs)
    answer = tokens.label_trie or tokens.target_mean
    work = work_of(rows, suffix_tokens(tokens) + answer, shared, 1, answer)
    passes = min(rows, TIMED_ROWS) + max(0, rows - TIMED_ROWS) / BATCHED_ROWS
    wide, gflops = (2, machine.bf16_gflops) if machine.fast_bf16 else (4, machine.fp32_gflops)
    moved = work.tokens * FORWARD_MOVES * _activation_bytes(inputs, wide) + passes * inputs.base.parameters * wide
    rates = zip(_rates(inputs, gflops, SCORING_RATE), _bandwidths(inputs), strict=True)
    return [_forward_flops(inputs, work) / rate + moved / bandwidth for rate, bandwidth in rates]


def _rates(inputs: PlanInputs, gflops: float, reached: tuple[float, float, float]) -> list[float]:
    """FLOP/s at best, usually, at worst."""
    return [1e9 * share * (gflops or _UNMEASURED_GFLOPS * inputs.machine.cores) for share in reached]


def _bandwidths(inputs: PlanInputs) -> list[float]:
    """Bytes a second at best, usually, at worst."""
    return [1e9 * moved for moved in (GPU_BANDWIDTH if inputs.machine.gpus else CPU_BANDWIDTH)]


def _seconds(*parts: list[float]) -> Estimate:
    return _interval([sum(times) for times in zip(START_SECONDS, *parts, strict=True)], "s")


def _activation_bytes(inputs: PlanInputs, wide: int) -> int:
    """Bytes that a pass keeps a token, at ``wide`` bytes a number."""
    return 17 * wide * inputs.base.hidden * inputs.base.layers


def _adapter_inputs(inputs: PlanInputs, adapter: LoraSettings, tokens: float) -> float:
    """Bytes of the layer inputs that an fp32 adapter keeps for its backward pass."""
    return 4 * tokens * inputs.base.layers * sum(inputs.base.linear_shapes.get(name, (0, 0))[0] for name in adapter.targets)


def _largest_pack(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """Tokens of a pass over long rows: the token budget, or a whole batch of them where that is less, the longest row where more."""
    tokens = inputs.tokens
    batch = tokens.shared_prefix + settings.batch_size * (tokens.prompt_p95 - tokens.shared_prefix + tokens.target_max)
    return max(min(settings.token_budget, batch), tokens.prompt_max + tokens.target_max)


def _most_answers(inputs: PlanInputs, tokens: float) -> float:
    """Answer tokens in a full pack, at most."""
    own = suffix_tokens(inputs.tokens) + inputs.tokens.target_mean
    return tokens * inputs.tokens.target_mean / own


def _memory(inputs: PlanInputs, fixed: float, passing: float) -> Estimate:
    """``fixed`` bytes are there throughout, ``passing`` ones come and go with a pass."""
    spread = GPU_SPREAD if inputs.machine.gpus else CPU_SPREAD
    return _interval([PROCESS_GIB + (fixed + share * passing) / GIB for share in spread], "GiB")


def _interval(values: list[float], unit: str) -> Estimate:
    low, likely, high = values
    return Estimate(low=low, likely=likely, high=high, unit=unit)
