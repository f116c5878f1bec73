"""A GPU that is none: tensors that say they are on a CUDA device, hold their numbers in this machine's memory, and refuse what a device
refuses: to be computed with tensors of another device, to be read as an array, to be named by an address.

What runs on it runs every line that a GPU would have it run, in the order and on the types of a GPU, with real numbers; kernels are those
of the CPU. Not simulated: kernels, streams, memory that runs out, and several devices.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from transformers import PreTrainedModel

GPU = torch.device("cuda", 0)
#: What the simulated card has and says.
TOTAL, FREE, NAME = 24 << 30, 20 << 30, "Simulated GPU"
#: Operations that take tensors of two devices on a real GPU, too: copies, and indices that lie on the CPU.
_MIXED = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class GpuTensor(torch.Tensor):
    """A tensor on the simulated GPU; ``held`` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device="cpu"
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GpuTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Computes on the numbers, once all tensors were seen to be on one device."""
        flat, shape = tree_flatten((args, kwargs or {}))
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        name = func._schema.name
        there = [each for each in tensors if isinstance(each, GpuTensor)]
        elsewhere = [each for each in tensors if not isinstance(each, GpuTensor) and each.ndim > 0]
        if there and elsewhere and name not in _MIXED:
            raise RuntimeError(f"{name}: tensors on two devices, cuda:0 and cpu, of shapes {[tuple(each.shape) for each in tensors]}")
        placed = name != "aten::copy_" or isinstance(args[0], GpuTensor)
        given, options = tree_unflatten([each.held if isinstance(each, GpuTensor) else each for each in flat], shape)
        if name == "aten::histc":  # of whole numbers, which the CPU's kernel refuses
            return GpuTensor(func(given[0].float(), *given[1:], **options).to(given[0].dtype))
        out = func(*given, **options)
        if name.endswith("_") and isinstance(args[0], GpuTensor):
            return args[0]
        return tree_map(lambda each: GpuTensor(each) if placed and isinstance(each, torch.Tensor) else each, out)


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class _Moves(TorchFunctionMode):
    """What moves tensors between devices, makes them on one, or reads them as arrays."""

    def __init__(self, moved: Counter[str]) -> None:
        super().__init__()
        self.moved = moved

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], torch.Tensor):
            return self._move(name, func, args, options)
        if name == "tolist" and isinstance(args[0], GpuTensor):
            return args[0].held.tolist()
        if name == "data_ptr" and isinstance(args[0], GpuTensor):
            return args[0].held.data_ptr()
        if name in ("numpy", "__array__") and args and isinstance(args[0], GpuTensor):
            raise TypeError(f"can't convert cuda:0 device type tensor to numpy ({name})")
        if name == "scaled_dot_product_attention":
            return self._attention(*args, **options)
        if _is_gpu(options.get("device")):
            made = func(*args, **options | {"device": "cpu"})
            return _on_gpu(made, made.requires_grad)
        return func(*args, **options)

    def _move(self, name: str, func: Any, args: Any, options: dict[str, Any]) -> Any:
        tensor, *rest = args
        named = [each for each in rest if isinstance(each, str | torch.device)]
        like = [each for each in rest if isinstance(each, torch.Tensor)]
        wanted: Any = options.pop("device", None) or next(iter(named), None) or (like[0].device if like else None)
        wanted = {"cpu": "cpu", "cuda": "cuda"}.get(name) or wanted
        dtype = options.pop("dtype", None) or next((each for each in rest if isinstance(each, torch.dtype)), None)
        dtype = dtype or (like[0].dtype if like else tensor.dtype)
        copied = options.get("copy", False)
        there = isinstance(tensor, GpuTensor)
        goes = there if wanted is None else _is_gpu(wanted)
        if wanted is not None and torch.device(wanted).type == "meta":
            return func(*args, **(kwargs_of(options) | {"device": "meta"}))
        typed = tensor if dtype is tensor.dtype and not copied else torch.Tensor.to(tensor, dtype=dtype, copy=copied)
        if goes == there:
            return typed
        self.moved["to GPU" if goes else "to CPU"] += 1
        return _Move.apply(typed, goes)  # type: ignore[no-untyped-call]

    def _attention(self, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
                   scale: float | None = None, enable_gqa: bool = False) -> Any:  # fmt: skip
        if not any(isinstance(each, GpuTensor) for each in (query, key, value, attn_mask)):
            with torch._C.DisableTorchFunction():
                return torch.nn.functional.scaled_dot_product_attention(
                    query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
                )
        masks = [attn_mask] if attn_mask is not None and attn_mask.is_floating_point() else []
        if torch.is_autocast_enabled("cpu"):
            query, key, value, *masks = (each.to(torch.get_autocast_dtype("cpu")) for each in (query, key, value, *masks))
            attn_mask = masks[0] if masks else attn_mask
        dtypes = {each.dtype for each in (query, key, value, *masks)}
        if len(dtypes) > 1:
            raise RuntimeError(f"attention kernels take one type, not {sorted(map(str, dtypes))}")
        if enable_gqa and key.shape[1] != query.shape[1]:
            shared = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(shared, dim=1) for each in (key, value))
        scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
        if is_causal:
            seen = GpuTensor(torch.ones(scores.shape[-2:], dtype=torch.bool).tril())
            scores = scores.masked_fill(~seen, float("-inf"))
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype is torch.bool else scores + attn_mask
        return scores.softmax(dim=-1) @ value


def kwargs_of(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in ("dtype", "copy", "non_blocking")}


class _Move(torch.autograd.Function):
    """A copy to the other device, and of its gradient back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, goes: bool) -> torch.Tensor:
        ctx.goes = goes
        return _moved(tensor, goes)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _moved(upstream[0], not ctx.goes), None


def _moved(tensor: torch.Tensor, goes: bool) -> torch.Tensor:
    if goes:
        return GpuTensor(tensor.detach().clone())
    assert isinstance(tensor, GpuTensor)
    return tensor.held.detach().clone()


def _on_gpu(tensor: torch.Tensor, learned: bool) -> torch.Tensor:
    return GpuTensor(tensor.detach()).requires_grad_(learned)


def _module_to(original: Any) -> Any:
    """``Module.to`` for a device that keeps shared parameters shared, as the real one does."""

    def to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        device = kwargs.get("device") or next((each for each in args if isinstance(each, str | torch.device)), None)
        if not _is_gpu(device):
            return original(module, *args, **kwargs)  # type: ignore[no-any-return]
        seen: dict[int, Any] = {}
        for part in module.modules():
            for name, kept in [*part._parameters.items(), *part._buffers.items()]:
                if kept is None or isinstance(kept, GpuTensor):
                    continue
                if id(kept) not in seen:
                    made = _moved(kept, True)
                    seen[id(kept)] = _parameter(made, kept) if isinstance(kept, torch.nn.Parameter) else made
                (part._parameters if name in part._parameters else part._buffers)[name] = seen[id(kept)]
        return module

    return to


def _parameter(made: torch.Tensor, kept: Any) -> torch.nn.Parameter:
    """``made`` as the parameter that ``kept`` is; of one in four bits, with what says how to read them."""
    placed: Any = torch.nn.Parameter(made, kept.requires_grad)
    if getattr(kept, "quant_state", None) is not None:
        placed.quant_state = copy.deepcopy(kept.quant_state)
        placed.quant_state.to(GPU)
    return placed  # type: ignore[no-any-return]


def _read_to_gpu(original: Any) -> Any:
    """``from_pretrained`` with a map of devices: read here, then moved."""

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        there = _is_gpu((kwargs.get("device_map") or {}).get(""))
        read = original.__func__(cls, *args, **(kwargs | {"device_map": {"": "cpu"}} if there else kwargs))
        return torch.nn.Module.to(read, GPU) if there else read

    return classmethod(from_pretrained)


class _Autocast(torch.autocast):
    """Autocast of the simulated GPU, by that of the CPU: which types are cast is nearly the same."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _backward(original: Any, moved: Counter[str]) -> Any:
    """A backward pass on the simulated machine: ``backward`` itself is called with torch's modes off."""

    def backward(*args: Any, **kwargs: Any) -> Any:
        with _Moves(moved):
            return original(*args, **kwargs)

    return backward


def _run(original: Any, moved: Counter[str]) -> Any:
    """``Thread.run`` on the simulated machine: torch's modes hold for a thread."""

    def run(thread: threading.Thread) -> None:
        with _Moves(moved):
            original(thread)

    return run


@contextmanager
def simulated_gpu() -> Iterator[Counter[str]]:
    """A machine with one simulated GPU within the block; counts the tensors that were copied between the devices."""
    moves = _Moves(Counter())
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: NAME,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: mock.Mock(total_memory=TOTAL),
        "mem_get_info": lambda *_: (FREE, TOTAL),
        "memory_allocated": lambda *_: 1 << 30,
        "memory_reserved": lambda *_: 2 << 30,
        "max_memory_allocated": lambda *_: 3 << 30,
        "reset_peak_memory_stats": lambda *_: None,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda **_: True,
        "set_device": lambda *_: None,
        "device_of": lambda _: nullcontext(),
    }
    with (
        moves,
        mock.patch.multiple(torch.cuda, **cuda),
        mock.patch.object(torch, "autocast", _Autocast),
        mock.patch.object(torch, "inference_mode", torch.no_grad),
    ):
        with (
            mock.patch.object(torch.nn.Module, "to", _module_to(torch.nn.Module.to)),
            mock.patch.object(PreTrainedModel, "from_pretrained", _read_to_gpu(PreTrainedModel.from_pretrained)),
            mock.patch.object(torch.autograd, "_engine_run_backward", _backward(torch.autograd._engine_run_backward, moves.moved)),
            mock.patch.object(threading.Thread, "run", _run(threading.Thread.run, moves.moved)),
        ):
            yield moves.moved
