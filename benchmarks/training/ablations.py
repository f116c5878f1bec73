"""Tricks of the training loop, each of which can be taken away to see what it is worth. Used by benchmarks alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tailorbird.training import batches, decoder, loss, network, tree_attention
from tailorbird.training.decoder import projection


def _no_sharing() -> None:
    """Every row computes its whole prompt."""
    batches.shared_prefix = _nothing  # type: ignore[assignment]
    batches.narrowed_prefix = _nothing  # type: ignore[assignment]


def _nothing(*_: Any) -> int:
    return 0


def _as_transformers_computes() -> None:
    """transformers' own forward pass, each layer apart; attention still over the tree."""
    network.is_written_out = _false  # type: ignore[assignment]


def _false(*_: Any) -> bool:
    return False


def _stock_attention() -> None:
    """torch's attention kernel for each block, differentiated by autograd."""

    def attention(
        qkv_TND: torch.Tensor, angles: Any, tree: tree_attention.AttentionTree, heads: tuple[int, int], scale: float
    ) -> torch.Tensor:
        turning, half = sum(heads), qkv_TND.shape[-1] // 2
        turned, value = qkv_TND[:, :turning], qkv_TND[:, turning:]
        turned = turned * angles[0] + torch.cat([-turned[..., half:], turned[..., :half]], dim=-1) * angles[1]
        query, key = turned[:, : heads[0]], turned[:, heads[0] :]
        return torch.cat([tree_attention._stock(block, query, key, value, scale) for block in tree.blocks])

    decoder.rotary_attention = attention


def _apart() -> None:
    """Layers that read the same input are multiplied one by one."""

    def apart(layers: Any, dtype: torch.dtype) -> Any:
        each = [projection([layer], dtype) for layer in layers]
        return lambda x_TI: torch.cat([one(x_TI) for one in each], dim=-1)

    decoder.projection = apart


def _whole_last_layer() -> None:
    """The last layer computes all tokens."""

    def last(self: Any, layer: Any, x_TH: torch.Tensor, angles: Any, packed: Any) -> torch.Tensor:
        return self._whole(layer, x_TH, angles, packed).index_select(0, packed.answers_A)

    decoder.Decoder._last = last  # type: ignore[method-assign]


def _norms_by_autograd() -> None:
    """Norms as transformers writes them, differentiated by autograd."""

    def norm(x_TH: torch.Tensor, weight_H: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        x32_TH = x_TH.float()
        return weight_H.to(dtype) * (x32_TH * torch.rsqrt(x32_TH.pow(2).mean(-1, keepdim=True) + eps)).to(dtype)

    decoder.rms_norm = norm


def _loss_at_once() -> None:
    """A whole block of logits in fp32 at once."""
    loss._ROWS = loss._BLOCK


#: By the name under which the benchmark reports it. "bf16" is a setting, see own.py.
TRICKS: dict[str, Callable[[], None]] = {
    "prefix sharing": _no_sharing,
    "forward pass written out": _as_transformers_computes,
    "attention as matmuls": _stock_attention,
    "joined projections": _apart,
    "last layer for answers alone": _whole_last_layer,
    "norms written out": _norms_by_autograd,
    "loss a few rows at a time": _loss_at_once,
    "bf16": lambda: None,
}


def go_without(trick: str) -> None:
    """Takes ``trick`` away in this process; the empty name takes nothing."""
    if trick:
        TRICKS[trick]()
