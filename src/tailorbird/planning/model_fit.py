"""Fit of a base model to this machine and to common GPUs, by the formulas of a plan without timed steps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.model_fit import FitMachine, MethodFit, ModelFit, SufficientMachine
from tailorbird.domain.plan import LoraSettings, Machine, PassLayout, TokenProfile, TrainingSettings
from tailorbird.domain.value import Value
from tailorbird.planning.flops import adapter_parameters, backbone_parameters
from tailorbird.planning.gpu_catalogue import GPUS, MATMUL_SHARE, gpu_machine
from tailorbird.planning.memory import GIB, memory_parts, prompt_memory
from tailorbird.planning.setting_rules import (
    ALPHA,
    BATCH,
    SMALLEST_DEFAULT_RANK,
    WARMUP,
    Method,
    usual_precision,
    usual_token_budget,
)
from tailorbird.planning.sufficient_machine import (
    DIVISIBLE,
    FREE,
    WorkElsewhere,
    fitted,
    needed_memory,
    no_gpus,
    sufficient_gpus,
)
from tailorbird.planning.time_and_cost import TRAINING_RATE, training_rate

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
