"""Weights of base models and LoRA adapters in PEFT format, read and checked; number format and device of the models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers

from tailorbird import __version__
from tailorbird.base_models.adapter_format import AdapterChange, check_fit, refused_adapter
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.forward.adapter_files import read_changes
from tailorbird.inference.scheduling import SequenceNeeds
from tailorbird.training.devices import is_bf16_fast, pick_device

Precision = Literal["auto", "bf16", "fp32", "int8"]
#: What is computed in; ``int8`` holds the weights of linear layers in eight bits and computes in bf16.
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.bfloat16}


class Placement(NamedTuple):
    """The number format and the device of an engine. ``elsewhere`` is the format of models that the native pass does not compute, where it
    is another."""

    precision: str
    dtype: torch.dtype
    device: torch.device
    elsewhere: torch.dtype | None = None

    @property
    def eight_bits(self) -> bool:
        """True where weights of linear layers are held in int8."""
        return self.precision == "int8"


def place(wish: Precision) -> Placement:
    """``wish`` as a placement; ``auto`` is bf16 where the device multiplies it faster than fp32."""
    device = pick_device()
    asked = ("bf16" if is_bf16_fast(device) else "fp32") if wish == "auto" else wish
    if asked not in _DTYPES:
        raise InvalidInput(f"there is no precision {asked!r}", "set engine_precision to bf16, fp32, int8 or auto", code="precision")
    return Placement(asked, _DTYPES[asked], device)


def fingerprint(placement: Placement) -> str:
    """Names everything beside the weights that could change a number."""
    libraries = f"torch-{torch.__version__.split('+')[0]} transformers-{transformers.__version__}"
    formats = placement.precision + ("-or-fp32" if placement.elsewhere else "")
    return f"tailorbird-{__version__} {libraries} {formats} {placement.device.type}"


#: Linear layers of a decoder block that read the same input are computed as one; their parts in order.
GROUPS: dict[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
_PATH = re.compile(r"model\.layers\.(\d+)\.((?:self_attn|mlp)\.\w+)")
#: Linear layer to (inputs, outputs).
LinearShapes = dict[str, tuple[int, int]]


#: The changes that an adapter makes, by (layer, name of the linear layer).
Changes = dict[tuple[int, str], AdapterChange]


class WrittenOutForward:
    """Base of the written-out passes: keys and values in blocks, beginnings shared, adapters of a decoder block's linear layers."""

    needs = SequenceNeeds()
    linears: LinearShapes
    layers: int

    def adapt(self, changes: Changes) -> Any:
        """An adapter laid out for this pass; it has ``nbytes``."""
        raise NotImplementedError

    def read_adapter(self, folder: Path) -> Any:
        """The adapter in ``folder``. Raises ModelInvalid when it cannot be read or does not fit a base of these shapes."""
        changes = Changes()
        for path, change in read_changes(folder).items():
            match = _PATH.fullmatch(path)
            if match is None or int(match[1]) >= self.layers or match[2] not in self.linears:
                raise refused_adapter(folder, f"the base has no layer {path}")
            check_fit(folder, path, change, self.linears[match[2]])
            changes[int(match[1]), match[2]] = change
        return self.adapt(changes)

    def release(self, memory: Any, blocks: Sequence[int]) -> None:
        """Blocks are given out anew by the schedule alone."""


#: Kinds of rotary embedding whose angles depend on the length of the text, so that they cannot stand in one table.
MOVING = frozenset({"dynamic", "longrope"})


def linear_shapes(model: Any) -> LinearShapes:
    """Inputs and outputs of the linear layers of a decoder block."""
    found = {name: model.model.layers[0].get_submodule(name).weight.shape for names in GROUPS.values() for name in names}
    return {name: (inputs, outputs) for name, (outputs, inputs) in found.items()}


def joined(layer: Any, group: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of the linear layers of a group, their outputs side by side."""
    linears = [layer.get_submodule(name) for name in GROUPS[group]]
    weight_OI = torch.cat([linear.weight.detach() for linear in linears])
    if all(linear.bias is None for linear in linears):
        return weight_OI, None
    return weight_OI, torch.cat([linear.bias.detach() for linear in linears])
