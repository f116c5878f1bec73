"""Layers of an encoder as a processor computes them fastest: products over packed weights, and attention of each text by itself."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tailorbird.inference.transformers_verbosity import quiet

#: Rows for which weights are laid out; other numbers are computed as fast.
_ROWS = 128
#: How far the numbers of a packed product may be off, as a part of the largest of them.
_OFF = 1e-5
#: Name of ``_attend`` among transformers' implementations of attention.
_APART = "tailorbird-apart"


class PackedLinear(torch.nn.Module):
    """A linear layer in fp32 whose weights lie as oneDNN reads them: torch itself asks MKL for such products, which takes twice as long on
    a processor that is not Intel's. Raises RuntimeError, AttributeError where this torch has no such product."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


@torch.inference_mode()
def pack_linear_layers(model: Any) -> None:
    """Puts a ``PackedLinear`` in the place of each linear layer for which one gives the same; hooks of the layer go with it. Names of
    modules stay."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return  # elsewhere torch itself takes oneDNN, or something faster
    for path, layer in list(model.named_modules()):
        if type(layer) is torch.nn.Linear and (packed := _packed(layer)) is not None:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, packed)


def _packed(layer: torch.nn.Linear) -> PackedLinear | None:
    """None: torch cannot pack it, or what comes of it is something else."""
    if layer.weight.device.type != "cpu" or layer.weight.dtype != torch.float32:
        return None
    x_NI = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    try:
        packed = PackedLinear(layer)
        found_NO = packed(x_NI)
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    wanted_NO = layer(x_NI)
    off = (found_NO - wanted_NO).abs().max() if found_NO.shape == wanted_NO.shape else torch.tensor(torch.inf)
    return packed if off <= _OFF * wanted_NO.abs().max() else None


#: Tokens of each text of those that lie one behind the other.
_lengths: ContextVar[Sequence[int]] = ContextVar("lengths")


@contextmanager
def texts_of(lengths: Sequence[int]) -> Iterator[None]:
    """Inside, a row of tokens holds texts of so many tokens, one behind the other."""
    token = _lengths.set(lengths)
    try:
        yield
    finally:
        _lengths.reset(token)


def attend_apart(model: Any) -> str | None:
    """From now on each text of ``texts_of`` attends to itself alone, without a mask, where the family asks transformers for its attention.
    Gives the name of the attention before, for ``attend_by``; None where the family has none but its own, which it keeps."""
    before: str = model.config._attn_implementation
    try:
        attend_by(model, _APART)
    except (ValueError, ImportError):
        return None
    return before


def attend_by(model: Any, name: str) -> None:
    """Sets the implementation of attention. Raises ValueError, ImportError: the family cannot have it."""
    with quiet():
        model.set_attn_implementation(name)


def _attend(
    _: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *__: Any, scaling: float | None = None, **___: Any
) -> tuple[torch.Tensor, None]:
    """Queries, keys and values (1, heads, tokens, D) to (1, tokens, heads, D)."""
    lengths = list(_lengths.get())
    texts = zip(*(torch.split_with_sizes(each, lengths, dim=2) for each in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2) for q, k, v in texts]
    return torch.cat(found, dim=1), None


AttentionInterface.register(_APART, _attend)
