"""LoRA adapters on any linear layer of a transformers model, applied to the rows of a batch that are computed with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.forward.adapter_files import adapter_config, adapter_tensors, refused_adapter
from tailorbird.inference.forward.weights import LowRank
from tailorbird.text.regex import check_pattern, matches

_KEY = re.compile(r"(?:base_model\.model\.)?(.+?)((?:\.base_layer)*)\.lora_(A|B)(?:\.default)?\.weight")
#: Settings of PEFT that change what an adapter computes beyond a low-rank change of linear layers, and that must be unset.
_MUST_BE_UNSET = (
    "use_dora", "modules_to_save", "lora_bias", "layer_replication", "use_qalora", "trainable_token_indices",
    "alora_invocation_tokens", "corda_config", "arrow_config",
)  # fmt: skip
#: The part of a module's path that a wrapper of a language model adds.
_WRAPPING = ("language_model", "text_model")


class ExpertDelta(NamedTuple):
    """The change ``left @ right`` of the joint tensor of all experts of a layer, in its order of axes, with the scaling in it."""

    left: torch.Tensor
    right: torch.Tensor


class ModuleAdapter:
    """The changes that an adapter makes: of linear layers by their path, the scaling inside ``up_OR``; of experts by path and parameter."""

    def __init__(self, deltas: dict[str, LowRank], experts: dict[tuple[str, str], ExpertDelta]) -> None:
        self.deltas, self.experts = deltas, experts
        routed = {path for path in deltas if sum(part.isdigit() for part in path.split(".")) > 1}
        #: Paths of what every text passes through: not what belongs to one expert.
        self.passed = (deltas.keys() - routed) | {path for path, _ in experts}
        #: True where a changed layer may see its rows in another order, as an expert does: its rows cannot stand beside those of others.
        self.apart = bool(experts or routed)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for delta in (*self.deltas.values(), *self.experts.values()) for tensor in delta)


class RowRange(NamedTuple):
    """Neighbouring rows of a batch with the same adapter (None: the bare weights)."""

    start: int
    stop: int
    adapter: ModuleAdapter | None


def read_module_adapter(folder: Path, model: Any, dtype: torch.dtype) -> ModuleAdapter:
    """The adapter in ``folder`` for ``model``. Raises ModelInvalid when it cannot be read or does not fit."""
    config = adapter_config(folder, _MUST_BE_UNSET)
    _check_patterns(folder, config)
    places, device = _Places(model), next(model.parameters()).device
    deltas: dict[str, LowRank] = {}
    wrapped: dict[str, list[_Pair]] = {}
    for (name, depth), pair in sorted(_pairs(folder).items()):
        path = places.find(folder, name)
        if path is None:
            continue
        if pair.keys() != {"A", "B"}:
            raise refused_adapter(folder, f"half of layer {name} is missing")
        if linear_sizes(places.modules[path]) is None and config.get("target_parameters"):
            wrapped.setdefault(path, []).append(pair)
            continue
        if depth:
            raise refused_adapter(folder, f"{name} is not a linear layer")
        _check_shape(folder, name, pair, places.modules[path])
        scale = _scaling(config, name, len(pair["A"]))
        deltas[path] = LowRank(pair["A"].to(dtype).to(device), (pair["B"] * scale).to(dtype).to(device))
    experts = {
        key: delta for path, pairs in wrapped.items() for key, delta in _of_experts(folder, config, (path, places.modules[path]), pairs)
    }
    if not deltas and not experts:
        raise refused_adapter(folder, "it changes nothing that reads text")
    return ModuleAdapter(deltas, experts)


_Pair = dict[str, torch.Tensor]


def _pairs(folder: Path) -> dict[tuple[str, int], _Pair]:
    """A and B by the path of what they change, and by how many wrappers lie around it: PEFT puts one around another."""
    pairs: dict[tuple[str, int], _Pair] = {}
    for key, tensor in adapter_tensors(folder).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise refused_adapter(folder, f"it changes {key}, which is not a linear layer")
        pairs.setdefault((match[1], match[2].count(".")), {})[match[3]] = tensor.float()
    if not pairs:
        raise refused_adapter(folder, "it holds no tensors")
    return pairs


def _of_experts(
    folder: Path, config: dict[str, Any], place: tuple[str, Any], pairs: list[_Pair]
) -> Iterator[tuple[tuple[str, str], ExpertDelta]]:
    """The changes of a module's joint tensors: the last of its parameters is the outermost wrapper, which comes first."""
    path, module = place
    wanted = [
        (name, tensor)
        for name, tensor in module.named_parameters(recurse=False)
        if any(f".{path}.{name}".endswith(f".{target}") for target in config["target_parameters"])
    ]
    if len(wanted) != len(pairs) or any(tensor.ndim != 3 for _, tensor in wanted):
        raise refused_adapter(folder, f"the parameters of {path} that it changes are not those that it names")
    for (name, tensor), pair in zip(reversed(wanted), pairs, strict=True):
        swapped = not getattr(module, "is_transposed", False)
        count, outputs, inputs = tensor.shape if swapped else (tensor.shape[0], tensor.shape[2], tensor.shape[1])
        rank = len(pair["A"]) // count
        if rank < 1 or pair["A"].shape != (rank * count, inputs) or pair["B"].shape != (outputs, rank * count):
            raise refused_adapter(folder, f"{path}.{name} has another shape than the base's {count} times {inputs} and {outputs}")
        down_ERI = pair["A"].reshape(count, rank, inputs)
        up_EOR = pair["B"].reshape(outputs, rank, count).permute(2, 0, 1) * _scaling(config, f"{path}.{name}", rank)
        left, right = (up_EOR, down_ERI) if swapped else (down_ERI.transpose(1, 2), up_EOR.transpose(1, 2))
        yield (path, name), ExpertDelta(left.to(tensor.dtype).to(tensor.device), right.to(tensor.dtype).to(tensor.device))


def _check_patterns(folder: Path, config: dict[str, Any]) -> None:
    """Raises ModelInvalid for names that are none: patterns are matched in linear time, which takes nearly all that PEFT takes."""
    patterns, targets = config.get("alpha_pattern") or {}, config.get("target_parameters") or []
    try:
        for pattern, own in patterns.items():
            check_pattern(pattern)
            float(own)
        known = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    except (AttributeError, TypeError, ValueError, InvalidInput) as error:
        raise refused_adapter(folder, "its alpha_pattern cannot be read") from error
    if not known:
        raise refused_adapter(folder, "its target_parameters cannot be read")


def _scaling(config: dict[str, Any], name: str, rank: int) -> float:
    """Scaling of one layer, as PEFT finds it: the first pattern whose key is the path or its end."""
    alpha = float(config["lora_alpha"])
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if matches(rf"(.*\.)?({pattern})", name):
            alpha = float(own)
            break
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


class _Places:
    """Modules of a model by path, also as another wrapping of the same language model names them."""

    def __init__(self, model: Any) -> None:
        self.modules: dict[str, Any] = dict(model.named_modules())
        self._plain: dict[str, list[str]] = {}
        for path in self.modules:
            self._plain.setdefault(_plain(path), []).append(path)
        self._inside = {name for path in self.modules for name in path.split(".")}

    def find(self, folder: Path, name: str) -> str | None:
        """Path of the module that an adapter calls ``name``; None for a part that does not read text and was left out.

        Raises ModelInvalid: the base has no such layer.
        """
        if name in self.modules:
            return name
        found = self._plain.get(_plain(name), [])
        if len(found) == 1:
            return found[0]
        if any(part in name.split(".") for part in ("visual", "vision_tower", "vision_model", "multi_modal_projector", "audio_tower")):
            return None
        raise refused_adapter(folder, f"the base has no layer {name}")


def _plain(path: str) -> str:
    """A path without what the wrapping of a language model adds to it."""
    return ".".join(part for part in path.split(".") if part not in (*_WRAPPING, "model"))


def _check_shape(folder: Path, name: str, pair: dict[str, torch.Tensor], module: Any) -> None:
    sizes = linear_sizes(module)
    if sizes is None:
        raise refused_adapter(folder, f"{name} is not a linear layer")
    inputs, outputs = sizes
    if pair["A"].ndim != 2 or not len(pair["A"]) or pair["A"].shape[1] != inputs or pair["B"].shape != (outputs, pair["A"].shape[0]):
        raise refused_adapter(folder, f"layer {name} has another shape than the base's {inputs} inputs and {outputs} outputs")


def linear_sizes(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer; None for any other module."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and weight is not None:  # GPT-2 holds its linear layers the other way round
        return int(weight.shape[0]), int(weight.shape[1])
    return None


class AdapterHooks:
    """Hooks on linear layers of one model, which add each row's own change to what the layer gives."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._hooked: set[str] = set()
        self._ranges: Sequence[RowRange] = ()
        self._shape = (0, 0)
        #: Paths of the layers that were changed since the ranges were set.
        self.reached: set[str] = set()

    def cover(self, adapter: ModuleAdapter) -> None:
        """Every layer that ``adapter`` changes has a hook."""
        for path in adapter.deltas.keys() - self._hooked:
            self._model.get_submodule(path).register_forward_hook(self._hook(path))
            self._hooked.add(path)
        for path in {path for path, _ in adapter.experts} - self._hooked:
            self._change_experts(path)
            self._hooked.add(path)

    @contextmanager
    def applied(self, ranges: Sequence[RowRange], rows: int, length: int) -> Iterator[None]:
        """Inside, ``rows`` of ``length`` tokens are computed, each with the adapter of its range."""
        self._ranges = [one for one in ranges if one.adapter is not None]
        self._shape = (rows, length)
        self.reached = set()
        assert len(ranges) == 1 or not any(one.adapter.experts for one in ranges if one.adapter), "experts are changed apart"
        try:
            yield
        finally:
            self._ranges = ()

    def _change_experts(self, path: str) -> None:
        """The joint tensors of the experts at ``path`` are changed while these are computed, one layer at a time."""
        module = self._model.get_submodule(path)
        own: dict[str, torch.nn.Parameter] = {}

        def change(*_: Any) -> None:
            for one in self._ranges:
                for (place, name), delta in one.adapter.experts.items() if one.adapter is not None else ():
                    if place == path:
                        own[name] = module._parameters[name]
                        changed = torch.baddbmm(own[name].detach(), delta.left, delta.right)
                        module._parameters[name] = torch.nn.Parameter(changed, requires_grad=False)
                        self.reached.add(path)

        def restore(*_: Any) -> None:
            module._parameters.update(own)
            own.clear()

        module.register_forward_pre_hook(change)
        module.register_forward_hook(restore, always_call=True)

    def _hook(self, path: str) -> Any:
        def add(_: Any, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
            if not self._ranges:
                return out
            x = given[0]
            for start, stop, adapter in self._ranges:
                delta = adapter.deltas.get(path) if adapter is not None else None
                if delta is None:
                    continue
                self.reached.add(path)
                if len(self._ranges) == 1 and stop - start == self._shape[0]:
                    return out + F.linear(F.linear(x.to(delta.down_RI.dtype), delta.down_RI), delta.up_OR).to(out.dtype)
                part = self._rows(path, x, start, stop)
                change = F.linear(F.linear(x[part].to(delta.down_RI.dtype), delta.down_RI), delta.up_OR)
                out[part] += change.to(out.dtype)
            return out

        return add

    def _rows(self, path: str, x: torch.Tensor, start: int, stop: int) -> slice:
        """The rows of ``x`` that belong to sequences ``start`` to ``stop``: it has one row a sequence, or one a token."""
        rows, length = self._shape
        if x.ndim > 2 and x.shape[0] == rows:
            return slice(start, stop)
        if x.ndim == 2 and x.shape[0] == rows * length:
            return slice(start * length, stop * length)
        raise ValueError(f"{path} sees its rows in an order that is not known")
