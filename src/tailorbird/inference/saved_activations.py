"""Activations that a training keeps for its backward pass, counted on a model without memory: its own forward pass, tensor by tensor."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tailorbird.domain.base_model import SavedActivations

_log = logging.getLogger("tailorbird.models")

#: Tokens of the two passes from which bytes a token and bytes a pair of tokens follow; a chunk of a state-space layer has 256.
_LENGTHS = (256, 512)
_Precision = Literal["bf16", "fp32"]
_Trained = Literal["adapter", "full"]
_DTYPES: dict[_Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}
_TRAINED: tuple[_Trained, ...] = ("adapter", "full")
#: Seconds of the processor that all passes may take. Most models take one; a scan in Python over many layers that differ would end the
#: process that describes the model.
_BUDGET = 20.0
#: The name under which transformers finds attention that keeps what tree attention keeps.
_ATTENTION = "tailorbird_counted"


def count_saved(model: Any, blocks: nn.ModuleList, adapted: Set[str]) -> tuple[SavedActivations, ...]:
    """What all ``blocks`` of ``model`` keep, for adapters on the layers called ``adapted`` and for all weights. The model, which may be on
    the meta device, is of no use afterwards. Empty where its pass depends on values, which a model without memory does not have; what is
    not counted within ``_BUDGET`` is missing."""
    AttentionInterface.register(_ATTENTION, _counted_attention)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    layers, period, attention = len(blocks), _period(model, blocks), model.config._attn_implementation
    sizes = (2 * period, period) if 2 * period < layers else (layers,)
    counts: dict[tuple[_Trained, _Precision], list[list[SavedActivations]]] = {}
    with FakeTensorMode(), _silence(), _Budget(time.process_time() + _BUDGET):
        for size in sizes:
            del blocks[size:]
            for trained in _TRAINED:
                for precision, dtype in _DTYPES.items():
                    try:
                        _place(model.eval(), dtype if trained == "adapter" else torch.float32)
                        _prepare(model, adapted if trained == "adapter" else None)
                        counts.setdefault((trained, precision), []).append(list(_of(model, precision, trained, attention)))
                    except Exception as error:  # noqa: BLE001 - whatever an architecture does with values: the formula stands in
                        _log.debug("activations (%s, %s) cannot be counted: %s", trained, precision, type(error).__name__)
    known = [found for found in counts.values() if len(found) == len(sizes)]
    return tuple(_whole(each, layers / period) for found in known for each in zip(*found, strict=True))


def _whole(found: tuple[SavedActivations, ...], times: float) -> SavedActivations:
    """What all blocks keep, where two periods of them and one were counted."""
    if len(found) == 1:
        return found[0]
    two, one = found
    token, pair = (one.token + (times - 1) * (two.token - one.token), one.pair + (times - 1) * (two.pair - one.pair))
    return one.model_copy(update={"token": round(token), "pair": round(pair, 3)})


def _period(model: Any, blocks: nn.ModuleList) -> int:
    """After how many blocks their kinds repeat: blocks of one kind have the same parts, sizes and kind of attention."""
    named = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or [""] * len(blocks)
    kinds = [
        (type(block).__name__, named[place], tuple((name, tuple(tensor.shape)) for name, tensor in block.named_parameters()))
        for place, block in enumerate(blocks)
    ]
    return next(size for size in range(1, len(kinds) + 1) if all(kind == kinds[place % size] for place, kind in enumerate(kinds)))


@contextmanager
def _silence() -> Iterator[None]:
    """torch tells each operation that it cannot follow."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _place(model: Any, dtype: torch.dtype) -> None:
    """Weights and tables without memory, as if they lay on the CPU; shared ones stay shared."""
    made: dict[int, Any] = {}
    for part in model.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None and id(tensor) not in made:
                    kind = dtype if tensor.is_floating_point() and held is part._parameters else tensor.dtype
                    fresh = torch.empty(tensor.shape, dtype=kind)
                    made[id(tensor)] = nn.Parameter(fresh, tensor.requires_grad) if held is part._parameters else fresh
                if tensor is not None:
                    held[name] = made[id(tensor)]


def _of(model: Any, precision: _Precision, trained: _Trained, own: str) -> Iterator[SavedActivations]:
    layouts: dict[Literal["packed", "padded"], str] = {"packed": _ATTENTION, "padded": own}
    for layout, attention in layouts.items():
        model.set_attn_implementation(attention)
        short = _bytes_kept(model, _LENGTHS[0], _DTYPES[precision], masked=layout == "padded")
        # a T + b T² = bytes; packed rows attend as tree attention does, which keeps nothing a pair
        long = _bytes_kept(model, _LENGTHS[1], _DTYPES[precision], masked=True) if layout == "padded" else 2 * short
        pair = max(0.0, (long / _LENGTHS[1] - short / _LENGTHS[0]) / (_LENGTHS[1] - _LENGTHS[0]))
        token = short / _LENGTHS[0] - pair * _LENGTHS[0]
        yield SavedActivations(layout=layout, trained=trained, precision=precision, token=round(token), pair=round(pair, 3))


def _bytes_kept(model: Any, length: int, dtype: torch.dtype, *, masked: bool) -> int:
    """Bytes of the memory that autograd keeps of one row; tables, weights and (counted with these) their copies in ``dtype`` aside."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory._cdata not in own and tensor.numel() >= length:
            kept[memory._cdata] = memory.nbytes()
        return tensor

    ids = torch.zeros((1, length), dtype=torch.long)
    mask = torch.ones((1, length), dtype=torch.long) if masked else torch.empty(1, 1, 0, 0)
    casting = model.dtype is not dtype
    cast = torch.autocast("cpu", dtype=dtype, enabled=casting, cache_enabled=False)
    copies = _WeightCopies(own) if casting else nullcontext()
    with cast, copies, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    del held
    return sum(kept.values())


class _Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises TimeoutError at the first operation after ``until`` (seconds of this process)."""

    def __init__(self, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._until = until

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if time.process_time() > self._until:
            raise TimeoutError("counting takes too long")
        return func(*args, **kwargs or {})


class _WeightCopies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds to the memory in ``own`` what is made of it in another type. Copies are held, so that no other tensor gets their place."""

    def __init__(self, own: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = own
        self._held: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        made = func(*args, **kwargs or {})
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self._own:
            self._own.add(made.untyped_storage()._cdata)
            self._held.append(made)
        return made


class _Product(torch.autograd.Function):
    """In the place of an adapted layer: what it reads is kept, and the weight is not."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, learned: torch.Tensor, outputs: int) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        ctx.save_for_backward(x)
        del learned
        return x.new_empty((*x.shape[:-1], outputs))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[None, None, None]:
        """Is never asked for."""
        raise NotImplementedError


#: torch leaves ``Function.apply`` untyped.
_product: Any = _Product.apply


class _Attention(torch.autograd.Function):
    """Attention that keeps queries, keys and values."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(1, heads, T, D) to (1, T, heads, width of values)."""
        ctx.save_for_backward(query, key, value)
        return query.new_empty((query.shape[0], query.shape[2], query.shape[1], value.shape[-1]))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[None, None, None]:
        """Is never asked for."""
        raise NotImplementedError


def _counted_attention(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any) -> Any:
    del module, mask
    attend: Any = _Attention.apply
    return attend(query, key, value), None


def _prepare(model: Any, adapted: Set[str] | None) -> None:
    """All weights learn, or (``adapted``) adapters on the layers called so."""
    model.requires_grad_(adapted is None)
    learned = torch.zeros(1, requires_grad=True)
    for path, layer in model.get_decoder().named_modules():
        if isinstance(layer, nn.Linear):
            vars(layer).pop("forward", None)
            if path.rpartition(".")[2] in (adapted or ()):
                layer.forward = partial(_read, learned, layer.out_features)  # type: ignore[method-assign]


def _read(learned: torch.Tensor, outputs: int, x: torch.Tensor) -> torch.Tensor:
    read: torch.Tensor = _product(x, learned, outputs)
    return read
