"""LoRA adapters on any linear layer of a transformers model, applied to the rows of a batch that are computed with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import ref

import torch
import torch.nn.functional as F

from tailorbird.base_models.adapter_format import check_fit, refused_adapter
from tailorbird.inference.forward.adapter_files import read_changes

#: Parts of a module's path that the wrapping of a language model adds.
_WRAPPING = ("language_model", "text_model", "model")
#: Parts of the path of a layer that reads no text.
_OTHER_SENSES = {"visual", "vision_tower", "vision_model", "multi_modal_projector", "audio_tower"}


class LowRank(NamedTuple):
    """A change ``up @ down`` of one linear layer's weight. The scaling is inside ``up``."""

    down_RI: torch.Tensor
    up_OR: torch.Tensor


class ModuleAdapter:
    """The changes that an adapter makes of linear layers, by their path."""

    def __init__(self, deltas: dict[str, LowRank]) -> None:
        self.deltas = deltas
        #: False where a number is none: multiplied with it, the zeros of a neighbour's row would be none either.
        self.finite = all(bool(tensor.isfinite().all()) for delta in deltas.values() for tensor in delta)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(tensor.nbytes for delta in self.deltas.values() for tensor in delta)


class RowRange(NamedTuple):
    """Neighbouring rows of a batch with the same adapter (None: the bare weights)."""

    start: int
    stop: int
    adapter: ModuleAdapter | None


def read_module_adapter(folder: Path, model: Any, dtype: torch.dtype) -> ModuleAdapter:
    """The adapter in ``folder`` for ``model``. Raises ModelInvalid when it cannot be read or does not fit."""
    places, device = _Places(model), next(model.parameters()).device
    deltas: dict[str, LowRank] = {}
    for name, change in read_changes(folder).items():
        path = places.find(folder, name)
        if path is None:
            continue
        sizes = linear_sizes(places.modules[path])
        if sizes is None or "experts" in path.split("."):
            raise refused_adapter(folder, f"{name} is not a linear layer that every text passes through")
        check_fit(folder, name, change, sizes)
        deltas[path] = LowRank(change.down_RI.to(dtype).to(device), change.scaled_up_OR.to(dtype).to(device))
    if not deltas:
        raise refused_adapter(folder, "it changes nothing that reads text")
    return ModuleAdapter(deltas)


class _Places:
    """Modules of a model by path, also as another wrapping of the same language model names them."""

    def __init__(self, model: Any) -> None:
        self.modules: dict[str, Any] = dict(model.named_modules())
        self._plain: dict[str, list[str]] = {}
        for path in self.modules:
            self._plain.setdefault(_plain(path), []).append(path)

    def find(self, folder: Path, name: str) -> str | None:
        """Path of the module that an adapter calls ``name``; None for a part that does not read text and was left out.

        Raises ModelInvalid: the base has no such layer.
        """
        if name in self.modules:
            return name
        found = self._plain.get(_plain(name), [])
        if len(found) == 1:
            return found[0]
        if _OTHER_SENSES.intersection(name.split(".")):
            return None
        raise refused_adapter(folder, f"the base has no layer {name}")


def _plain(path: str) -> str:
    """A path without what the wrapping of a language model adds to it."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPING)


def linear_sizes(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer; None for any other module."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and weight is not None:  # GPT-2 holds its linear layers the other way round
        return int(weight.shape[0]), int(weight.shape[1])
    return None


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
        self._hooked = dict[str, Any]()
        self._ranges: Sequence[RowRange] = ()
        self._shape = (0, 0)
        self._mixed: _Mixed | None = None
        #: What was joined last, by layer, and of which adapters; it keeps none of them alive.
        self._joined: dict[str, LowRank] = {}
        self._joined_of: list[ref[ModuleAdapter]] = []
        #: Paths of the layers that were changed since the ranges were set.
        self.reached: set[str] = set()

    def cover(self, adapter: ModuleAdapter) -> None:
        """Every layer that ``adapter`` changes has a hook."""
        for path in adapter.deltas.keys() - self._hooked:
            self._hooked[path] = self._model.get_submodule(path).register_forward_hook(self._hook(path))

    def forget(self) -> None:
        """No layer has a hook any more: others may come in their place."""
        for hook in self._hooked.values():
            hook.remove()
        self._hooked.clear()

    @contextmanager
    def applied(self, ranges: Sequence[RowRange], rows: int, length: int) -> Iterator[None]:
        """Inside, ``rows`` of ``length`` tokens are computed, each with the adapter of its range."""
        self._ranges = [one for one in ranges if one.adapter is not None]
        self._shape = (rows, length)
        self._mixed = self._mix() if len(ranges) > 1 else None
        self.reached = set()
        try:
            yield
        finally:
            self._ranges, self._mixed = (), None

    def _mix(self) -> _Mixed | None:
        """None where the adapters are too large to be joined, not all finite, or none."""
        adapters = tuple(sorted({one.adapter for one in self._ranges if one.adapter is not None}, key=id))
        if not adapters or not all(adapter.finite for adapter in adapters) or sum(each.nbytes for each in adapters) > self._joint_nbytes:
            return None
        if len(self._joined_of) != len(adapters) or any(known() is not one for known, one in zip(self._joined_of, adapters, strict=True)):
            self._joined, self._joined_of = {}, [ref(one) for one in adapters]
        owners = [-1] * self._shape[0]
        for start, stop, adapter in self._ranges:
            assert adapter is not None
            owners[start:stop] = [adapters.index(adapter)] * (stop - start)
        return _Mixed(adapters, self._joined, torch.tensor(owners), {})

    def _hook(self, path: str) -> Any:
        def add(_: Any, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
            if not self._ranges:
                return out
            x_NI, y_NO = given[0].flatten(0, -2), out.flatten(0, -2)
            if self._mixed is not None:
                self._add_mixed(self._mixed, path, x_NI, y_NO)
            else:
                for start, stop, adapter in self._rows(path, len(x_NI)):
                    if adapter is not None and (delta := adapter.deltas.get(path)) is not None:
                        self.reached.add(path)
                        _add(y_NO[start:stop], F.linear(x_NI[start:stop].to(delta.down_RI.dtype), delta.down_RI), delta.up_OR)
            return y_NO.view_as(out)

        return add

    def _add_mixed(self, mixed: _Mixed, path: str, x_NI: torch.Tensor, y_NO: torch.Tensor) -> None:
        """Adds to what the layer at ``path`` gives each row's own change of it."""
        deltas = [adapter.deltas.get(path) for adapter in mixed.adapters]
        ranks = tuple(0 if delta is None else len(delta.down_RI) for delta in deltas)
        if not any(ranks):
            return
        self.reached.add(path)
        if path not in mixed.layers:
            held = [delta for delta in deltas if delta is not None]
            mixed.layers[path] = LowRank(torch.cat([each.down_RI for each in held]), torch.cat([each.up_OR for each in held], dim=1))
        down_RI, up_OR = mixed.layers[path]
        if ranks not in mixed.owns:
            columns = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
            owns = (mixed.owners_B[:, None] == columns).repeat_interleave(self._shape[1], dim=0)
            mixed.owns[ranks] = owns.to(down_RI.device)
        owns = mixed.owns[ranks]
        if len(x_NI) != len(owns):
            raise _unknown_order(path)
        # Chosen, not multiplied by zero: what overflows in a neighbour's directions stays the neighbour's.
        low = F.linear(x_NI.to(down_RI.dtype), down_RI)
        _add(y_NO, low.where(owns, low.new_zeros(())), up_OR)

    def _rows(self, path: str, count: int) -> Sequence[RowRange]:
        """The ranges among ``count`` rows that the layer at ``path`` reads: tokens, or what a single sequence has beside them."""
        rows, length = self._shape
        if count == rows * length:
            return [RowRange(start * length, stop * length, adapter) for start, stop, adapter in self._ranges]
        if [(start, stop) for start, stop, _ in self._ranges] != [(0, rows)]:
            raise _unknown_order(path)
        return [self._ranges[0]._replace(stop=count)]


def _add(y_NO: torch.Tensor, low_NR: torch.Tensor, up_OR: torch.Tensor) -> None:
    """Adds the product to ``y_NO`` where it lies."""
    if y_NO.dtype == up_OR.dtype:
        y_NO.addmm_(low_NR, up_OR.T)
    else:
        y_NO += F.linear(low_NR, up_OR).to(y_NO.dtype)


def _unknown_order(path: str) -> ValueError:
    return ValueError(f"{path} reads something else than the tokens of the texts")
