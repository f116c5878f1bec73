"""Memory estimate of a rung, at the training loop's longest pass.

The loop packs rows behind their common prefix into passes of at most ``token_budget`` tokens, keeps what each layer's backward pass needs,
holds logits of 256 answer tokens at once (of all in a pass, where a model caps or shifts them), and updates in fp32. So the highest is the
largest of two moments: the end of the forward pass of the longest pass, and the update, when gradients, weights and moments are all there.
The numbers a token and layer are counted from the layers that run: the loop's own, or those of transformers. A GPU differs by its allocator
alone. What allocators add comes from timed steps where there are any, from a constant otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tailorbird.domain.base_model import BaseModelRef, SavedActivations
from tailorbird.domain.plan import Estimate, TrainingSettings
from tailorbird.domain.timing import Calibration
from tailorbird.planning.flops import adapter_parameters, laid_out_tokens, linear_parameters, own_tokens, passes_of, prefix_of, steps_of
from tailorbird.planning.inputs import TrainingWork
from tailorbird.planning.setting_rules import demonstration_tokens
from tailorbird.planning.time_and_cost import around, interval
from tailorbird.system.primitive_cache import KEPT_PRIMITIVES, PRIMITIVE_MIB

GIB = 2**30

#: GiB of the interpreter, its libraries and the tokenizer, before any model; on a GPU of its context.
PROCESS_GIB = 0.47
#: What allocators and copies take beside what is counted, as multiples of it, and GiB whatever the pass. Measured on two CPU cores.
CPU_KEPT, GPU_KEPT, CPU_BESIDE = 1.35, 1.1, 0.15
#: The same beside what was counted tensor by tensor; where there are experts, whose tensors are of another size in each pass.
CPU_COUNTED, CPU_EXPERTS = 1.03, 1.3
#: The ends of the interval, without and with timed steps.
GUESSED, TIMED = (0.80, 1.30), (0.92, 1.10)
#: Bytes of a weight in 4-bit NormalFloat: blocks of 64 share a scale of 8 bits, 256 of those another one (arXiv 2305.14314, §3).
NF4_BYTES = 0.516
#: Answer tokens whose logits exist at once, tokens of an attention group, and probabilities of a layer that are kept for the backward pass:
#: those of the loop.
LOGIT_ROWS, GROUP_TOKENS, KEPT_PROBABILITIES = 256, 96, 8 * 2**20
#: Bytes of a logit that the model itself makes: a cap's output and product, log-probabilities and their gradient in fp32, and one over.
OWN_LOGIT = 17
#: Linear layers of the blocks that the loop computes by layers of its own.
_LLAMA = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


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


@dataclass(frozen=True)
class MemoryParts:
    """GiB at the highest moment: ``process`` before the model, ``weights``, ``optimiser`` (gradients, moments) and ``activations``, with
    logits and copies."""

    process: float
    weights: float
    optimiser: float
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.process + self.weights + self.optimiser + self.activations


def training_memory(inputs: TrainingWork, settings: TrainingSettings) -> Estimate:
    """GiB of the whole process at its highest."""
    timed = inputs.timed(settings)
    if timed is None:
        return around(memory_parts(inputs, settings).total, GUESSED, "GiB")
    return around(_fitted(inputs, timed, _held(inputs, settings, longest_pass(inputs, settings))), TIMED, "GiB")


def memory_parts(inputs: TrainingWork, settings: TrainingSettings, processes: int = 1) -> MemoryParts:
    """What the likely memory of a training consists of, by formula. ``processes``: how many divide the weights, each on its own GPU."""
    held = _held(inputs, settings, longest_pass(inputs, settings))
    if processes > 1:
        held = _divided(held, inputs.base, settings, processes)
    slack, beside = _slack(inputs, settings), 0.0 if inputs.machine.gpus else CPU_BESIDE
    optimiser = held.moments + held.gradients
    activations = _highest(held, slack) - held.weights - optimiser
    return MemoryParts(PROCESS_GIB + beside, held.weights / GIB, optimiser / GIB, activations / GIB)


def grown_memory(inputs: TrainingWork, settings: TrainingSettings) -> Estimate:
    """GiB that the process grows by from before the model is read: the whole less the process itself."""
    timed, whole = inputs.timed(settings), training_memory(inputs, settings)
    start = timed.process_gb if timed else PROCESS_GIB
    return interval([max(0.0, end - start) for end in (whole.low, whole.likely, whole.high)], "GiB")


def _slack(inputs: TrainingWork, settings: TrainingSettings) -> float:
    """What the allocator adds to what a pass keeps, as a multiple of it."""
    if inputs.machine.gpus:
        return GPU_KEPT
    if _counted(inputs, settings) is None:
        return CPU_KEPT
    return CPU_EXPERTS if _has_experts(inputs.base) else CPU_COUNTED


def _highest(held: MemoryHeld, slack: float) -> float:
    return held.still + max(slack * held.kept + held.beside + held.gradients * held.several, held.gradients + held.update)


def _fitted(inputs: TrainingWork, timed: Calibration, held: MemoryHeld) -> float:
    """What was measured, moved from the timed settings and passes to these: GiB."""
    seen = [(_held(inputs, timed.settings, one.tokens, one.answers, passes=1), one.peak_gb * GIB) for one in timed.passes]
    small, large = seen[0], seen[-1]
    grown = large[0].kept - small[0].kept
    slack = (large[1] - small[1] - (large[0].beside - small[0].beside)) / grown if grown > 0 else _slack(inputs, timed.settings)
    slack = min(2.0, max(0.9, slack))
    # What neither weights nor a pass explain: libraries, allocators.
    rest = large[1] - _highest(large[0], slack)
    return (rest + _highest(held, slack)) / GIB


def _held(
    inputs: TrainingWork, settings: TrainingSettings, tokens: float, answers: float | None = None, passes: int | None = None
) -> MemoryHeld:
    base, wide = inputs.base, 2 if settings.precision == "bf16" else 4
    answers = _most_answers(inputs, tokens) if answers is None else answers
    several = (passes_of(inputs, settings, settings.batch_size) if passes is None else passes) > 1
    logits = base.vocabulary * (OWN_LOGIT * answers if _has_own_logits(base) else min(LOGIT_ROWS, answers) * wide * 2)
    kept = _kept(inputs, settings, tokens) + _probabilities(inputs, tokens, wide)
    passing = 6 * tokens * wide * base.intermediate + _compiled(inputs, settings)
    if settings.lora:
        trained = 4.0 * adapter_parameters(base, settings.lora)
        beside = logits + passing + _factor_copies(inputs, settings, wide)
        return MemoryHeld(_frozen(inputs, settings, wide) + trained, 2 * trained, kept, beside, trained, 0.0, several)
    trained, copies = 4.0 * base.parameters, 2 * base.parameters if wide == 2 else 0
    head = 4 * base.vocabulary * base.hidden
    return MemoryHeld(trained, 2 * trained, kept, logits + passing + copies + head, trained, head, several)


def _divided(held: MemoryHeld, base: BaseModelRef, settings: TrainingSettings, processes: int) -> MemoryHeld:
    """What each of ``processes`` holds of a divided model (FSDP2): its share of weights, gradients and moments; whole are the layer that is
    computed and the next one, the gradient of one where weights are trained, the output head, and copies in bf16 of trained weights."""
    wide = 4 if settings.method == "full" or settings.precision == "fp32" else 2
    head = base.vocabulary * base.hidden
    layers = (3 if settings.method == "full" else 2) * max(0, base.parameters - head) / base.layers
    return replace(
        held,
        weights=held.weights / processes,
        moments=held.moments / processes,
        beside=held.beside + wide * (layers + head),
        gradients=held.gradients / processes,
        update=held.update + wide * head,
    )


def _has_experts(base: BaseModelRef) -> bool:
    return base.anatomy is not None and base.anatomy.experts is not None


def _compiled(inputs: TrainingWork, settings: TrainingSettings) -> float:
    """Bytes of compiled products: an expert meets another number of tokens in each pass, so that the cache of a library for processors is
    full. What those of layers without experts take lies within ``CPU_BESIDE``."""
    full = settings.precision == "bf16" and _has_experts(inputs.base) and not inputs.machine.gpus
    return KEPT_PRIMITIVES * PRIMITIVE_MIB * 2**20 if full else 0.0


def _has_own_logits(base: BaseModelRef) -> bool:
    """True where the model makes its logits by more than its head, so that those of a whole pass are held at once."""
    return base.anatomy is not None and base.anatomy.own_logits


def _most_answers(inputs: TrainingWork, tokens: float) -> float:
    """Answer tokens of the longest pass; where all their logits are held, no fewer than those of the longest answer."""
    mean = tokens * inputs.tokens.learned_mean / own_tokens(inputs)
    return max(mean, inputs.tokens.target_max) if _has_own_logits(inputs.base) else mean


def _kept(inputs: TrainingWork, settings: TrainingSettings, tokens: float) -> float:
    """Bytes that all layers keep of a pass: as counted on the model's own pass, where that one runs, or by formula."""
    counted = _counted(inputs, settings)
    if counted is None:
        return tokens * inputs.base.layers * _bytes_kept(inputs, settings)
    low = settings.lora.rank * _adapted_layers(inputs.base, settings) if settings.lora else 0
    longest = tokens if inputs.tokens.layout == "single" else laid_out_tokens(inputs, settings.batch_size, 1)
    wide = 2 if settings.precision == "bf16" else 4
    return tokens * (counted.token + counted.pair * min(tokens, longest) + wide * low)


def _counted(inputs: TrainingWork, settings: TrainingSettings) -> SavedActivations | None:
    """None where the loop's own layers run, and where nothing was counted."""
    base = inputs.base
    if base.anatomy is None or not (inputs.machine.gpus or not _written_out(base)):
        return None
    wanted = ("packed" if inputs.tokens.layout == "packed" else "padded", "adapter" if settings.lora else "full", settings.precision)
    return next((one for one in base.anatomy.saved if (one.layout, one.trained, one.precision) == wanted), None)


def _adapted_layers(base: BaseModelRef, settings: TrainingSettings) -> int:
    """Layers that have an adapter."""
    assert settings.lora is not None
    return sum(group.count for group in base.linear_groups if group.name in settings.lora.targets)


def _bytes_kept(inputs: TrainingWork, settings: TrainingSettings) -> float:
    """Bytes that a layer keeps a token: the residual stream at each norm, what the projections read and gave, queries, keys and values
    after their rotation, what the gate read and gave; low-rank products; what the experts that a token meets read and gave.

    The loop's own layers keep the stream in the type of the pass (full fine-tuning: in fp32, as its weights) and compute the product of
    gate and input again. Those of transformers keep what each norm reads in fp32, and that product where the layer that reads it learns.
    """
    base, wide = inputs.base, 2 if settings.precision == "bf16" else 4
    stock = bool(inputs.machine.gpus) or not _written_out(base)
    queries = _query_width(base)
    groups = base.linear_groups
    given = sum(group.count * group.outputs for group in groups) / base.layers - 2 * base.hidden
    # Of layers that do not read the stream; attention's output is as wide as the queries.
    read = sum(group.count * group.inputs for group in groups if group.inputs != base.hidden) / base.layers
    read += base.hidden if queries == base.hidden else 0
    normalised = (base.anatomy.normalised / base.layers if base.anatomy else 0) or 2 * base.hidden
    stream = 4 * normalised if stock else 2 * base.hidden * (wide if settings.lora else 4)
    gated = _products_read(base, settings, queries) if stock else 0.0
    low = len(settings.lora.targets) * settings.lora.rank if settings.lora else 0
    return stream + wide * (2 * base.hidden + max(0.0, given) + read + gated + low + _experts_kept(base))


def _products_read(base: BaseModelRef, settings: TrainingSettings, queries: int) -> float:
    """Numbers that learning layers read which are neither the stream nor attention's output: the product of gate and input."""
    learning = [group for group in base.linear_groups if settings.lora is None or group.name in settings.lora.targets]
    read = sum(group.count * group.inputs for group in learning if group.inputs not in (base.hidden, queries))
    return read / base.layers


def _written_out(base: BaseModelRef) -> bool:
    """Whether the blocks look like those that the loop computes by layers of its own."""
    anatomy = base.anatomy
    if anatomy is None:
        return True
    plain = {group.name for group in anatomy.linear_groups} == _LLAMA and all(group.count == base.layers for group in anatomy.linear_groups)
    return plain and anatomy.experts is None and anatomy.normalised in (0, 2 * base.hidden * base.layers)


def _experts_kept(base: BaseModelRef) -> float:
    """Numbers that the experts of a layer keep a token: gate, input and their product of each that it meets, and what each gave."""
    experts = base.anatomy.experts if base.anatomy else None
    if experts is None:
        return 0.0
    return experts.parameters * experts.active / experts.experts / base.layers / base.hidden + experts.active * base.hidden


def _probabilities(inputs: TrainingWork, tokens: float, wide: int) -> float:
    """Bytes of attention probabilities that all layers keep; none on a GPU, whose kernels keep none, and where a layer's are too many, and
    computed again."""
    if inputs.machine.gpus or inputs.tokens.layout != "packed":
        return 0.0
    base, prefix = inputs.base, inputs.tokens.shared_prefix
    heads = _query_width(base) / _head_width(inputs)
    row = max(own_tokens(inputs), GROUP_TOKENS)
    pairs = max(0.0, tokens - prefix) * (prefix + row) + prefix * (prefix + 192) / 2
    return base.layers * wide * heads * pairs if heads * pairs <= KEPT_PROBABILITIES else 0.0


def _head_width(inputs: TrainingWork) -> int:
    """Width of an attention head: 64 in every small Llama, 128 in large ones, where the config's is not known."""
    return inputs.base.head_width or (64 if inputs.base.hidden < 2560 else 128)


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


def _factor_copies(inputs: TrainingWork, settings: TrainingSettings, wide: int) -> float:
    """Bytes of the adapter's factors in the type they are multiplied in: B of layers that read the same input stand on the diagonal of one
    matrix (three for queries, keys and values, two for gate and up)."""
    assert settings.lora is not None
    rank = settings.lora.rank
    joined = {"q_proj": 3, "k_proj": 3, "v_proj": 3, "gate_proj": 2, "up_proj": 2}
    groups = [group for group in inputs.base.linear_groups if group.name in settings.lora.targets]
    numbers = sum(group.count * rank * (group.inputs + joined.get(group.name, 1) * group.outputs) for group in groups)
    return float(numbers * wide)


def _frozen(inputs: TrainingWork, settings: TrainingSettings, wide: int) -> float:
    """Bytes of the frozen weights: embeddings and head are never quantised."""
    base, backbone = inputs.base, linear_parameters(inputs.base)
    if settings.method != "qlora":
        return base.parameters * wide
    largest = max((group.inputs * group.outputs for group in base.linear_groups), default=0)
    return (base.parameters - backbone) * wide + backbone * NF4_BYTES + largest * wide


def longest_pass(inputs: TrainingWork, settings: TrainingSettings) -> float:
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


def prompt_memory(inputs: TrainingWork, shots: int) -> Estimate:
    """GiB of the whole process while a batch of prompts is scored: weights, keys and values, one layer's activations, label logits."""
    base = inputs.base
    wide = 2 if inputs.machine.fast_bf16 else 4
    tokens = 32 * (inputs.tokens.prompt_p95 + inputs.tokens.listed) + shots * demonstration_tokens(inputs)
    held = tokens * wide * (2 * _key_width(base) * base.layers + 4 * base.hidden + 3 * base.intermediate)
    return around(PROCESS_GIB + (base.parameters * wide + held + 4 * base.vocabulary * 512) / GIB, GUESSED, "GiB")
