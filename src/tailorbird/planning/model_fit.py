"""Machines on which a process or a training fits: common GPUs, the smallest that would do, and the fit of a base model (``models fit``), by
the formulas of a plan without timed steps.

GPUs are as their makers' data sheets describe them. Rates are dense figures for bf16 (fp16 where there is no bf16) and fp32 in TFLOP/s,
power in watts, memory in GiB as the driver shows it, bandwidth of the memory in GB/s: the data sheets of NVIDIA for T4, L4, A10, L40S,
A100, H100 and H200, its HGX page for B200, and its architecture papers of Ada and Blackwell for RTX 4090 and 5090. Prices are round numbers
for an hour, to be replaced by one's own: ``price=``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.objective import Budget
from tailorbird.domain.plan import (
    Estimate,
    FitMachine,
    LoraSettings,
    Machine,
    MethodFit,
    ModelFit,
    PassLayout,
    SufficientMachine,
    TokenProfile,
    TrainingSettings,
)
from tailorbird.domain.timing import Calibration
from tailorbird.domain.value import Value
from tailorbird.planning.flops import adapter_parameters, backbone_parameters
from tailorbird.planning.inputs import TrainingWork
from tailorbird.planning.memory import GIB, GUESSED, memory_parts, prompt_memory, training_memory
from tailorbird.planning.setting_rules import (
    ALPHA,
    BATCH,
    LEAST_PASS,
    SMALLEST_DEFAULT_RANK,
    WARMUP,
    Method,
    usual_precision,
    usual_token_budget,
)
from tailorbird.planning.time_and_cost import TRAINING_RATE, training_rate
from tailorbird.text.normalisation import nearest


@dataclass(frozen=True)
class Gpu:
    """``fast_bf16``: it multiplies bf16 matrices (compute capability 8 or later)."""

    title: str
    memory_gb: float
    bf16: float
    fp32: float
    bandwidth: float
    watts: float
    per_hour: float
    fast_bf16: bool = True


GPUS = {
    "t4": Gpu("NVIDIA T4", 15, 65, 8.1, 320, 70, 0.4, fast_bf16=False),
    "l4": Gpu("NVIDIA L4", 22.5, 121, 30.3, 300, 72, 0.7),
    "a10": Gpu("NVIDIA A10", 22.5, 125, 31.2, 600, 150, 1.0),
    "rtx4090": Gpu("NVIDIA RTX 4090", 24, 165, 82.6, 1008, 450, 0.6),
    "rtx5090": Gpu("NVIDIA RTX 5090", 31.5, 209, 104.8, 1792, 575, 0.8),
    "l40s": Gpu("NVIDIA L40S", 44, 362, 91.6, 864, 350, 1.6),
    "a100": Gpu("NVIDIA A100 80 GB", 79, 312, 19.5, 2039, 400, 2.0),
    "h100": Gpu("NVIDIA H100 SXM", 79, 989, 67, 3350, 700, 3.5),
    "h200": Gpu("NVIDIA H200 SXM", 140, 989, 67, 4800, 700, 4.5),
    "b200": Gpu("NVIDIA B200", 178, 2250, 75, 8000, 1000, 6.5),
}

#: Share of the maker's rate that a large product of matrices reaches. Assumed, not measured here.
MATMUL_SHARE = 0.7


def gpu_named(name: str) -> Gpu:
    """The GPU called ``name``. Raises InvalidInput."""
    if name.lower() not in GPUS:
        near = nearest(name.lower(), GPUS)
        guess = f"did you mean {near}? " if near else ""
        raise InvalidInput(f"no GPU is known as {name!r}", f"{guess}known: {', '.join(GPUS)}", code="gpu_unknown", param="gpu")
    return GPUS[name.lower()]


def gpu_machine(here: Machine, gpu: Gpu) -> Machine:
    """``here`` with one such GPU, on which everything is computed."""
    return here.model_copy(
        update={
            "gpus": (gpu.title,),
            "memory_gb": gpu.memory_gb,
            "bf16_gflops": 1000 * MATMUL_SHARE * gpu.bf16,
            "fp32_gflops": 1000 * MATMUL_SHARE * gpu.fp32,
            "fast_bf16": gpu.fast_bf16,
            "threads": 0,
            "bandwidth_gbs": gpu.bandwidth,
        }
    )


#: Share of a machine's memory that one process may take when the budget says ``auto``.
FREE = 0.9
#: Methods whose weights several processes of one machine may divide (decision 0024), and how many GPUs of a kind are considered.
DIVISIBLE, SEVERAL = ("lora", "full"), (2, 4, 8)


@dataclass(frozen=True)
class WorkElsewhere:
    """A ``TrainingWork`` for a machine on which nothing was timed."""

    base: BaseModelRef
    machine: Machine
    tokens: TokenProfile
    train_rows: int

    def timed(self, settings: TrainingSettings) -> Calibration | None:
        """None."""
        del settings
        return None


@dataclass(frozen=True)
class SufficientGpus:
    """``count`` GPUs of a kind in one machine, among which the weights are divided where there are several."""

    gpu: Gpu
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"one {self.gpu.title} ({self.gpu.memory_gb:g} GiB)"
        return f"{self.count} {self.gpu.title} ({self.gpu.memory_gb:g} GiB each) that divide the weights"


def suggest_machine(memory_gb: float) -> str:
    """Machine on which a process of ``memory_gb`` GiB fits: its memory, and the smallest GPU that has as much."""
    needed = memory_gb / FREE
    fitting = min((gpu for gpu in GPUS.values() if gpu.memory_gb >= needed), key=lambda gpu: gpu.memory_gb, default=None)
    card = f" (one {fitting.title} has {fitting.memory_gb:g})" if fitting else ""
    return f"use a machine with {needed:.0f} GiB{card}"


def suggest_trainer(work: TrainingWork, settings: TrainingSettings, memory_gb: float) -> str:
    """Machine that would do for a training which takes up to ``memory_gb`` GiB on this one: such a machine with more memory, or GPUs."""
    found = sufficient_gpus(work, settings)
    return f"use a machine with {memory_gb / FREE:.0f} GiB" + (f", or {found}" if found else f"; {no_gpus(settings.method)}")


def no_gpus(method: str) -> str:
    """Why no known GPUs would do for ``method``."""
    largest = max(GPUS.values(), key=lambda gpu: gpu.memory_gb)
    if method not in DIVISIBLE:
        return f"no known GPU would do (up to {largest.memory_gb:g} GiB): weights in 4 bits are not divided among several"
    return f"no known GPUs would do: it takes more than {max(SEVERAL)} of {largest.memory_gb:g} GiB, and a training runs on one machine"


def sufficient_gpus(work: TrainingWork, settings: TrainingSettings) -> SufficientGpus | None:
    """The smallest GPU on which the upper end of the memory fits; else the least memory in several of one kind, where the method divides
    its weights; None where none would do."""
    counts = (1, *SEVERAL) if settings.method in DIVISIBLE else (1,)
    offers = [SufficientGpus(gpu, count) for count in counts for gpu in GPUS.values()]
    offers.sort(key=lambda offer: (offer.count > 1, offer.count * offer.gpu.memory_gb, offer.gpu.per_hour * offer.count))
    return next((offer for offer in offers if _holds(work, settings, offer)), None)


def _holds(work: TrainingWork, settings: TrainingSettings, offer: SufficientGpus) -> bool:
    """Whether the same training fits there: in that machine's precision, in passes as short as ``fitted`` makes them."""
    machine = gpu_machine(work.machine, offer.gpu)
    there = WorkElsewhere(work.base, machine, work.tokens, work.train_rows)
    shortest = min(settings.token_budget, _least_pass(settings))
    adapted = settings.model_copy(update={"precision": usual_precision(machine), "token_budget": shortest, "threads": 0})
    if offer.count == 1:
        return needed_memory(there, adapted).high <= FREE * offer.gpu.memory_gb
    return GUESSED[1] * memory_parts(there, adapted, offer.count).total <= FREE * offer.gpu.memory_gb


def fitted(work: TrainingWork, settings: TrainingSettings, limit: float) -> TrainingSettings:
    """``settings`` with passes that ``limit`` GiB surely hold: halved while they are longer than what keeps a processor busy and than the
    longest row. Batches stay as they are."""
    least = _least_pass(settings)
    while training_memory(work, settings).high > limit and settings.token_budget > least:
        settings = settings.model_copy(update={"token_budget": max(least, settings.token_budget // 2)})
    return settings


def _least_pass(settings: TrainingSettings) -> int:
    return max(settings.max_length, LEAST_PASS)


def limit_of(budget: Budget, machine: Machine) -> float:
    """GiB that one process may take: what the budget says, and never more than the machine leaves it."""
    free = FREE * machine.memory_gb
    return free if budget.memory_gb == "auto" else min(budget.memory_gb, free)


def needed_memory(work: TrainingWork, settings: TrainingSettings) -> Estimate:
    """GiB of a training and of measuring its result, on an unquantised base."""
    return max(training_memory(work, settings), prompt_memory(work, 0), key=lambda estimate: estimate.likely)


#: Tokens of a row unless said otherwise, share of them that is learned, and rows: as many as fill some batches.
LENGTH, LEARNED, ROWS = 1024, 0.25, 1000
#: Name of the machine on which the command runs.
HERE = "this machine"
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")


class FitQuestion(Value):
    """What shall be trained: rows of ``length`` tokens (default 1,024, or the context where it is shorter), passes of ``batch_tokens``
    (default: as planned for each machine), adapters of ``rank``; ``memory`` is what this machine has (GiB) instead of what it says."""

    length: Annotated[int, Field(ge=16, le=1 << 20)] | None = None
    batch_tokens: Annotated[int, Field(ge=16, le=1 << 22)] | None = None
    rank: Annotated[int, Field(ge=1, le=1024)] = SMALLEST_DEFAULT_RANK
    methods: tuple[Method, ...] = METHODS
    memory: Annotated[float, Field(gt=0, le=1 << 20)] | None = None


def asked_length(base: BaseModelRef, asked: FitQuestion) -> int:
    """Tokens of a row. Raises InvalidInput for rows longer than the context."""
    length = min(LENGTH, base.context) if asked.length is None else asked.length
    if length > base.context:
        raise InvalidInput(
            f"rows of {length:,} tokens are longer than the context of {base.name}, {base.context:,}",
            f"ask with --length {base.context} or less",
            code="example_too_long",
            param="length",
        )
    return length


def fit_of(base: BaseModelRef, here: Machine, asked: FitQuestion, layout: PassLayout = "packed") -> ModelFit:
    """How each method fits ``here`` and each GPU of the catalogue, with rows laid out as ``layout`` says. Raises as ``asked_length``."""
    length = asked_length(base, asked)
    if asked.memory is not None:
        here = here.model_copy(update={"memory_gb": asked.memory})
    methods = tuple(method for method in METHODS if method in asked.methods and (method == "full" or base.linear_shapes))
    machines = {HERE: here} | {gpu.title: gpu_machine(here, gpu) for gpu in GPUS.values()}
    works = {name: fit_work(base, machine, length, layout) for name, machine in machines.items()}
    return ModelFit(
        name=base.name,
        model_type=base.anatomy.model_type if base.anatomy else "",
        parameters=base.parameters,
        active_parameters=backbone_parameters(base),
        layers=base.layers,
        hidden=base.hidden,
        context=base.context,
        length=length,
        rank=asked.rank,
        machines=tuple(_machine(name, machine) for name, machine in machines.items()),
        methods=tuple(_method(name, work, fit_settings(work, asked, method)) for name, work in works.items() for method in methods),
        sufficient=tuple(_sufficient(works[HERE], fit_settings(works[HERE], asked, method)) for method in methods),
        notes=tuple(_notes(base)),
    )


def fit_work(base: BaseModelRef, machine: Machine, length: int, layout: PassLayout = "packed") -> WorkElsewhere:
    """A training on rows of ``length`` tokens each."""
    answer = max(1, round(LEARNED * length))
    prompt = length - answer
    tokens = TokenProfile(
        shared_prefix=0, prompt_mean=prompt, prompt_p95=prompt, prompt_max=prompt, target_mean=answer, target_max=answer, label_trie=0,
        layout=layout,
    )  # fmt: skip
    return WorkElsewhere(base, machine, tokens, ROWS)


def fit_settings(work: WorkElsewhere, asked: FitQuestion, method: Method) -> TrainingSettings:
    """Settings of the rules for ``work``, where what is asked says nothing else; learning rate and seed count for nothing here."""
    length = work.tokens.prompt_max + work.tokens.target_max
    adapter = LoraSettings(rank=asked.rank, alpha=ALPHA, targets=tuple(work.base.linear_shapes))
    return TrainingSettings(
        method=method,
        lora=None if method == "full" else adapter,
        learning_rate=1e-4,
        epochs=1,
        batch_size=BATCH,
        token_budget=max(length, asked.batch_tokens or usual_token_budget(work.machine)),
        max_length=length,
        warmup=WARMUP,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision=usual_precision(work.machine),
        seed=0,
    )


def _machine(name: str, machine: Machine) -> FitMachine:
    precision = usual_precision(machine)
    return FitMachine(
        name=name,
        measured=name == HERE,
        memory_gb=machine.memory_gb,
        tflops=round((machine.bf16_gflops if precision == "bf16" else machine.fp32_gflops) / 1000, 3),
        bandwidth_gbs=machine.bandwidth_gbs,
        precision=precision,
    )


def _method(name: str, work: WorkElsewhere, settings: TrainingSettings) -> MethodFit:
    limit = FREE * work.machine.memory_gb
    settings = fitted(work, settings, limit)
    parts, memory = memory_parts(work, settings), needed_memory(work, settings)
    return MethodFit(
        method=settings.method,
        machine=name,
        trained_parameters=adapter_parameters(work.base, settings.lora) if settings.lora else work.base.parameters,
        weights_gb=parts.weights,
        optimiser_gb=parts.optimiser,
        activations_gb=parts.activations,
        measuring_gb=prompt_memory(work, 0).likely,
        memory=memory,
        verdict="too large" if memory.likely > limit else "tight" if memory.high > limit else "fits",
        speed=training_rate(work, settings),
        pass_tokens=settings.token_budget,
    )


def _sufficient(work: WorkElsewhere, settings: TrainingSettings) -> SufficientMachine:
    found = sufficient_gpus(work, settings)
    return SufficientMachine(
        method=settings.method,
        gpu=found.gpu.title if found else "",
        count=found.count if found else 0,
        text=f"{found} would do" if found else no_gpus(settings.method),
    )


def _notes(base: BaseModelRef) -> list[str]:
    low, likely, high = (f"{share:.0%}" for share in reversed(TRAINING_RATE))
    notes = [
        "estimates by formula, not measured on a GPU: "
        f"products reach {likely} ({low} to {high}) of the matmul rate, which is {MATMUL_SHARE:.0%} of the maker's on a GPU",
        f"a process may take {FREE:.0%} of the memory; batches have {BATCH} rows, of whose tokens {LEARNED:.0%} are learned",
        "passes are halved, down to 1,024 tokens or one row, where the memory asks for it; that activations can be computed again, "
        "a third slower, is not counted",
    ]
    experts = base.anatomy.experts if base.anatomy else None
    if experts:
        notes.append(
            f"{experts.parameters / 1e9:.1f} billion of the weights are experts, one tensor a layer: they take no adapters, "
            "and qlora leaves them in 16 bits"
        )
    if not base.linear_shapes:
        notes.append("no layer takes adapters, so all weights are trained or none")
    half = 2 * base.parameters / GIB
    notes.append(f"qlora trains on 4 bits and is measured and served on the base in 16 bits ({half:.1f} GiB): its memory is the larger one")
    notes.append(f"several GPUs divide the weights of {' and '.join(DIVISIBLE)}; each process first reads all of them into main memory")
    return notes
