"""Factory of forward passes: native or torch, weights loaded from a folder, and the memory budget for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.inference.forward.batch import Batch
from tailorbird.inference.forward.equality import compare
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.torch_forward import TorchForward
from tailorbird.inference.forward.transformers_forward import TransformersForward
from tailorbird.inference.forward.weights import LinearShapes, Placement, Precision, place
from tailorbird.inference.native import library
from tailorbird.inference.native.forward import NativeForward, can_compute
from tailorbird.inference.scheduling import SequenceNeeds
from tailorbird.system.machine import resident_gib, return_growth
from tailorbird.training.devices import is_gpu

_log = logging.getLogger("tailorbird.engine")


class Forward(Protocol):
    """A decoder's weights and its step. ``kernels`` names how it computes; ``nbytes`` are its weights, ``token_nbytes`` what one token
    leaves in memory. Axes as in ``batch.py``; E hidden, V vocabulary."""

    kernels: str
    context: int
    layers: int
    linears: LinearShapes
    nbytes: int
    token_nbytes: int
    vocabulary: int
    needs: SequenceNeeds

    def memory(self, blocks: int) -> Any:
        """Room for the keys and values of so many blocks."""
        ...

    def release(self, memory: Any, blocks: Sequence[int]) -> None:
        """The sequence with these blocks is over. May be called while a step is computed."""
        ...

    def read_adapter(self, folder: Path) -> Any:
        """The adapter in ``folder``, laid out for this pass; it has ``nbytes``. Raises ModelInvalid: it cannot be read, or does not fit."""
        ...

    def hidden(self, batch: Batch, memory: Any) -> torch.Tensor:
        """Hidden states (ME) of the wanted tokens after the last norm; keys and values of all tokens are laid into ``memory``."""
        ...

    def logits(self, hidden_ME: torch.Tensor) -> torch.Tensor:
        """Logits (MV, fp32) of the tokens that could follow."""
        ...


Kernels = Literal["auto", "native", "plain"]


def choose_pass(precision: Precision, kernels: Kernels) -> tuple[Placement, str]:
    """Number formats, and ``native`` or ``plain``, for what an engine is asked for.

    With ``auto`` on a processor that multiplies bf16 no faster than fp32, the native pass still reads half of the bytes: a model that it
    computes is held in bf16, any other in fp32. Raises InvalidInput, as ``place`` and ``computed_by`` do.
    """
    placement = place(precision)
    slow = precision == "auto" and placement.precision == "fp32" and not is_gpu(placement.device)
    if slow and kernels in ("auto", "native") and library.why_not() is None:
        placement = placement._replace(precision="bf16", dtype=torch.bfloat16, elsewhere=placement.dtype)
    return placement, computed_by(placement, kernels)


def computed_by(placement: Placement, asked: Kernels = "auto") -> str:
    """``native`` or ``plain``, as ``asked``; ``auto`` takes the native pass where it can be had.

    Raises InvalidInput for another word, or where the native pass is asked for (or int8, which it alone computes) and cannot be had.
    """
    if asked not in get_args(Kernels):
        raise InvalidInput(f"there are no kernels {asked!r}", "set engine_kernels to native, plain or auto", code="kernels")
    if placement.precision not in ("bf16", "int8") or is_gpu(placement.device):
        why_not: str | None = f"they compute bf16 and int8 on the processor, not {placement.precision} on {placement.device.type}"
    else:
        why_not = "engine_kernels is plain" if asked == "plain" else library.why_not()
    if why_not is None:
        return "native"
    if asked == "native" or placement.eight_bits:
        hint = "set engine_precision to auto, bf16 or fp32" if placement.eight_bits else "set engine_kernels to auto"
        raise InvalidInput(f"the native kernels cannot be used: {why_not}", hint, code="kernels")
    return "plain"


def pass_name(kernels: str, placement: Placement) -> str:
    """``kernels`` as a fingerprint names them: the native pass with its form, where that computes with other numbers than the one of
    AVX-512 (the portable one; with matrix registers, which multiply bf16 alone), and with the format in
    which it holds adapters."""
    if kernels != "native":
        return kernels
    form = {"portable": "native-portable", "amx": "native" if placement.eight_bits else "native-amx"}.get(library.form_name(), "native")
    return f"{form}-int8-adapters"


def forward_of(model: Any, kernels: str, placement: Placement) -> Forward:
    """The pass that computes ``model`` as ``placement`` says: written out where that was seen to equal transformers' pass on this
    architecture, by ``kernels`` if they can. Raises ModelInvalid: it can be computed by none."""
    why_not = compare(model)
    if not why_not and kernels == "native" and can_compute(model, eight_bits=placement.eight_bits):
        return NativeForward(model, torch.get_num_threads(), eight_bits=placement.eight_bits)
    if placement.eight_bits:
        raise ModelInvalid(
            f"weights in int8 cannot be had for {model.config.model_type}, which the native kernels do not compute",
            "set engine_precision to auto, bf16 or fp32",
            code="precision",
        )
    if why_not:
        _log.info("computed by transformers' own pass: %s", why_not)
        return TransformersForward(model)
    return TorchForward(model)


def reader_of_decoders(placement: Placement, kernels: str) -> Callable[[Path], Forward]:
    """Reads the model in a folder as ``placement`` says, to be computed by ``kernels``. Raises ModelInvalid."""

    def read(folder: Path) -> Forward:
        before = resident_gib()
        forward = forward_of(read_weights(folder, placement), kernels, placement)
        if placement.elsewhere is not None and forward.kernels != "native":
            del forward  # before the same model is read in twice the bytes
            return_growth(before)
            forward = forward_of(read_weights(folder, placement._replace(dtype=placement.elsewhere)), kernels, placement)
        return_growth(before)  # the model as it was read, of which the native pass keeps a packed copy
        return forward

    return read


def reader_of_adapters(folder: Path, decoder: Any) -> Any:
    """Reads the adapter in a folder for ``decoder``. Raises ModelInvalid."""
    forward: Forward = decoder
    return forward.read_adapter(folder)
