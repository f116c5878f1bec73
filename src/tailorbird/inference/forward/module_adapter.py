"""LoRA adapters on any linear layer of a transformers model, applied to the rows of a batch that are computed with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import ref

import torch
import torch.nn.functional as F

from tailorbird.inference.forward.adapter_files import adapter_config, adapter_tensors, check_patterns, refused_adapter, scaling_of
from tailorbird.inference.forward.weights import LowRank

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
        #: False where a number is none: multiplied with it, the zeros of a neighbour's row would be none either.
        self.finite = all(bool(tensor.isfinite().all()) for delta in deltas.values() for tensor in delta)

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
    check_patterns(folder, config)
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
        scale = scaling_of(config, name, len(pair["A"]))
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
        up_EOR = pair["B"].reshape(outputs, rank, count).permute(2, 0, 1) * scaling_of(config, f"{path}.{name}", rank)
        left, right = (up_EOR, down_ERI) if swapped else (down_ERI.transpose(1, 2), up_EOR.transpose(1, 2))
        yield (path, name), ExpertDelta(left.to(tensor.dtype).to(tensor.device), right.to(tensor.dtype).to(tensor.device))


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


class _Joined(NamedTuple):
    """Matrices of several adapters by the layer's path, joined. They keep no adapter alive."""

    adapters: list[ref[ModuleAdapter]]
    layers: dict[str, LowRank]

    @staticmethod
    def of(adapters: Sequence[ModuleAdapter]) -> _Joined:
        """Nothing yet. It is emptied when the first of its adapters goes, by whichever thread lets it go."""
        layers: dict[str, LowRank] = {}
        return _Joined([ref(one, lambda _: layers.clear()) for one in adapters], layers)

    @property
    def whole(self) -> bool:
        """True while all adapters live."""
        return all(each() is not None for each in self.adapters)

    @property
    def nbytes(self) -> int:
        """Bytes that they take, or will take once all layers were computed."""
        return sum(one.nbytes for each in self.adapters if (one := each()) is not None)


class _Mixed(NamedTuple):
    """What rows of different adapters are computed by together: ``layers`` are joined. ``owners_B`` is each row's place among ``adapters``,
    -1 for none. ``owns`` says of a change's ranks, of each adapter, which directions a row has: (B, sum of the ranks)."""

    adapters: tuple[ModuleAdapter, ...]
    layers: dict[str, LowRank]
    owners_B: torch.Tensor
    owns: dict[tuple[int, ...], torch.Tensor]


class AdapterHooks:
    """Hooks on linear layers of one model, which add each row's own change to what the layer gives.

    Changes of several adapters are computed together, as one change of all their directions of which each row keeps its own: two products a
    layer however many adapters there are, for which their matrices are joined, while they fit into ``joint_nbytes``.
    """

    def __init__(self, model: Any, joint_nbytes: int = 0) -> None:
        self._model = model
        self._joint_nbytes = joint_nbytes
        self._hooked: set[str] = set()
        self._ranges: Sequence[RowRange] = ()
        self._shape = (0, 0)
        self._mixed: _Mixed | None = None
        #: What was joined, by the ids of its adapters, that of the last step last; it goes with any of them.
        self._joined: dict[tuple[int, ...], _Joined] = {}
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
        self._mixed = self._mix() if len(ranges) > 1 else None
        self.reached = set()
        assert len(ranges) == 1 or not any(one.adapter.experts for one in ranges if one.adapter), "experts are changed apart"
        try:
            yield
        finally:
            self._ranges, self._mixed = (), None

    def _mix(self) -> _Mixed | None:
        """None where the adapters are too large to be joined, not all finite, or none."""
        adapters = tuple(sorted({one.adapter for one in self._ranges if one.adapter is not None}, key=id))
        if not adapters or not all(adapter.finite for adapter in adapters) or sum(each.nbytes for each in adapters) > self._joint_nbytes:
            return None
        key = tuple(map(id, adapters))
        joined = self._joined.pop(key, None)
        if joined is None or not joined.whole:
            joined = _Joined.of(adapters)
        # What was joined of an adapter that is gone is empty by now.
        self._joined = {each: one for each, one in self._joined.items() if one.whole}
        while self._joined and sum(each.nbytes for each in (joined, *self._joined.values())) > self._joint_nbytes:
            del self._joined[next(iter(self._joined))]
        self._joined[key] = joined
        owners = [-1] * self._shape[0]
        for start, stop, adapter in self._ranges:
            assert adapter is not None
            owners[start:stop] = [adapters.index(adapter)] * (stop - start)
        return _Mixed(adapters, joined.layers, torch.tensor(owners), {})

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
            if self._mixed is not None:
                return self._add_mixed(self._mixed, path, x, out)
            for start, stop, adapter in self._ranges:
                delta = adapter.deltas.get(path) if adapter is not None else None
                if delta is None:
                    continue
                self.reached.add(path)
                if len(self._ranges) == 1 and stop - start == self._shape[0]:
                    return _added(out, F.linear(x.to(delta.down_RI.dtype), delta.down_RI), delta.up_OR)
                part = self._rows(path, x, start, stop)
                change = F.linear(F.linear(x[part].to(delta.down_RI.dtype), delta.down_RI), delta.up_OR)
                out[part] += change.to(out.dtype)
            return out

        return add

    def _add_mixed(self, mixed: _Mixed, path: str, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the layer at ``path`` gives, and each row's own change of it."""
        deltas = [adapter.deltas.get(path) for adapter in mixed.adapters]
        ranks = tuple(0 if delta is None else len(delta.down_RI) for delta in deltas)
        if not any(ranks):
            return out
        self.reached.add(path)
        if path not in mixed.layers:
            held = [delta for delta in deltas if delta is not None]
            mixed.layers[path] = LowRank(torch.cat([each.down_RI for each in held]), torch.cat([each.up_OR for each in held], dim=1))
        down_RI, up_OR = mixed.layers[path]
        if ranks not in mixed.owns:
            columns = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
            mixed.owns[ranks] = (mixed.owners_B[:, None] == columns).to(down_RI.device)
        owns = mixed.owns[ranks]
        if x.ndim == 2 and x.shape[0] == self._shape[0] * self._shape[1]:
            owns = owns.repeat_interleave(self._shape[1], dim=0)
        elif x.ndim > 2 and x.shape[0] == self._shape[0]:
            owns = owns.view(-1, *[1] * (x.ndim - 2), owns.shape[1])
        else:
            raise _unknown_order(path)
        # Chosen, not multiplied by zero: what overflows in a neighbour's directions stays the neighbour's.
        low = F.linear(x.to(down_RI.dtype), down_RI)
        return _added(out, low.where(owns, low.new_zeros(())), up_OR)

    def _rows(self, path: str, x: torch.Tensor, start: int, stop: int) -> slice:
        """The rows of ``x`` that belong to sequences ``start`` to ``stop``: it has one row a sequence, or one a token."""
        rows, length = self._shape
        if x.ndim > 2 and x.shape[0] == rows:
            return slice(start, stop)
        if x.ndim == 2 and x.shape[0] == rows * length:
            return slice(start * length, stop * length)
        raise _unknown_order(path)


def _added(out: torch.Tensor, low: torch.Tensor, up_OR: torch.Tensor) -> torch.Tensor:
    """``out``, to which the product is added where it lies."""
    if out.dtype != up_OR.dtype or not out.is_contiguous():
        return out + F.linear(low, up_OR).to(out.dtype)
    out.view(-1, out.shape[-1]).addmm_(low.reshape(-1, low.shape[-1]), up_OR.T)
    return out


def _unknown_order(path: str) -> ValueError:
    return ValueError(f"{path} sees its rows in an order that is not known")
