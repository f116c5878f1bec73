"""Fit of a base model to machines: memory and speed of each training method, estimated from its config."""

from __future__ import annotations

from typing import Literal

from tailorbird.domain.plan import Estimate
from tailorbird.domain.value import Value


class FitMachine(Value):
    """A machine: this one, with measured rates, or one GPU of the catalogue, with its maker's. ``memory_gb`` is that of the GPU where there
    is one; ``bandwidth_gbs`` is 0 where it is not known."""

    name: str
    measured: bool
    memory_gb: float
    tflops: float
    bandwidth_gbs: float
    precision: Literal["bf16", "fp32"]


class MethodFit(Value):
    """A training method on a machine, in GiB: ``weights``, ``optimiser`` (gradients, moments), ``activations`` (logits and copies
    included), ``memory`` of the whole process with ``measuring`` the result included. It ``fits`` when the likely memory does, and is
    ``tight`` where the upper end does not. ``speed`` is in trained tokens a second, and ``pass_tokens`` are packed into a pass."""

    method: Literal["lora", "qlora", "full"]
    machine: str
    trained_parameters: int
    weights_gb: float
    optimiser_gb: float
    activations_gb: float
    measuring_gb: float
    memory: Estimate
    verdict: Literal["fits", "tight", "too large"]
    speed: Estimate
    pass_tokens: int


class SufficientMachine(Value):
    """The smallest known machine that would do for a method: ``count`` of one GPU; 0 where none would. ``text`` says so."""

    method: Literal["lora", "qlora", "full"]
    gpu: str
    count: int
    text: str


class ModelFit(Value):
    """What was read of a base model, what was assumed, and how each method fits each machine.

    ``model_type`` is empty where the headers of the weights told the shape. ``active_parameters`` are those of the layers that a token
    meets; ``notes`` are sentences on what the numbers rest on.
    """

    name: str
    model_type: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    context: int
    length: int
    rank: int
    machines: tuple[FitMachine, ...]
    methods: tuple[MethodFit, ...]
    sufficient: tuple[SufficientMachine, ...]
    notes: tuple[str, ...]
