"""Smallest machine on which a process or a training fits, as a sentence: one for plans and for ``models fit``."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.objective import Budget
from tailorbird.domain.plan import Estimate, Machine, TokenProfile, TrainingSettings
from tailorbird.domain.timing import Calibration
from tailorbird.planning.gpu_catalogue import GPUS, Gpu, gpu_machine
from tailorbird.planning.inputs import TrainingWork
from tailorbird.planning.memory import GUESSED, memory_parts, prompt_memory, training_memory
from tailorbird.planning.setting_rules import LEAST_PASS, usual_precision

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
