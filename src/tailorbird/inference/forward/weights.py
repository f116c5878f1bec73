"""Weights of base models and LoRA adapters in PEFT format, read and checked; number format and device of the models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers

from tailorbird import __version__
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.devices import is_bf16_fast, pick_device
from tailorbird.inference.forward.adapter_files import adapter_config, adapter_tensors, check_patterns, refused_adapter, scaling_of

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
_KEY = re.compile(r"(?:base_model\.model\.)?model\.layers\.(\d+)\.((?:self_attn|mlp)\.\w+)\.lora_(A|B)(?:\.default)?\.weight")
#: Settings of PEFT that change what an adapter computes and that must be unset.
_MUST_BE_UNSET = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "lora_bias", "layer_replication", "use_qalora",
    "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "corda_config", "arrow_config",
)  # fmt: skip
#: Linear layer to (inputs, outputs).
LinearShapes = dict[str, tuple[int, int]]


class LowRank(NamedTuple):
    """A change ``up @ down`` of one linear layer's weight, fp32. The scaling is inside ``up``."""

    down_RI: torch.Tensor
    up_OR: torch.Tensor


class AdapterChange(NamedTuple):
    """A change ``scaling * up @ down`` of one linear layer's weight, in the number format of the adapter's file."""

    down_RI: torch.Tensor
    up_OR: torch.Tensor
    scaling: float

    @property
    def scaled_up_OR(self) -> torch.Tensor:
        """``up`` in fp32, the scaling inside."""
        return self.up_OR.float() * self.scaling


#: The changes that an adapter makes, by (layer, name of the linear layer).
Changes = dict[tuple[int, str], AdapterChange]


def read_adapter(folder: Path, linears: LinearShapes, layers: int) -> Changes:
    """The adapter in ``folder``. Raises ModelInvalid when it cannot be read or does not fit a base of these shapes."""
    config, changes = adapter_config(folder, _MUST_BE_UNSET), {}
    check_patterns(folder, config)
    for (layer, name), pair in _pairs(folder).items():
        _check_fit(folder, layer, name, pair, linears, layers)
        changes[layer, name] = AdapterChange(pair["A"], pair["B"], scaling_of(config, f"model.layers.{layer}.{name}", len(pair["A"])))
    return changes


def _pairs(folder: Path) -> dict[tuple[int, str], dict[str, torch.Tensor]]:
    pairs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for key, tensor in adapter_tensors(folder).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise refused_adapter(folder, f"it changes {key}, which is not a linear layer of a decoder block")
        pairs.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor
    if not pairs:
        raise refused_adapter(folder, "it holds no tensors")
    return pairs


def _check_fit(folder: Path, layer: int, name: str, pair: dict[str, torch.Tensor], linears: LinearShapes, layers: int) -> None:
    if layer >= layers or name not in linears:
        raise refused_adapter(folder, f"the base has no layer {layer}.{name}")
    if pair.keys() != {"A", "B"}:
        raise refused_adapter(folder, f"half of layer {layer}.{name} is missing")
    inputs, outputs = linears[name]
    if pair["A"].ndim != 2 or not len(pair["A"]) or pair["A"].shape[1] != inputs or pair["B"].shape != (outputs, pair["A"].shape[0]):
        raise refused_adapter(folder, f"layer {layer}.{name} has another shape than the base's {inputs} inputs and {outputs} outputs")


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
