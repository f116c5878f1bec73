"""Tricks of the training loop, each of which can be taken away to see what it is worth. Used by benchmarks alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tailorbird.training import batches, network as loss, tree_attention


def _no_sharing() -> None:
    """Every row computes its whole prompt."""
    batches.shared_prefix = _nothing  # type: ignore[assignment]
    batches.narrowed_prefix = _nothing  # type: ignore[assignment]


def _nothing(*_: Any) -> int:
    return 0


def _stock_attention() -> None:
    """torch's attention kernel for each block, differentiated by autograd."""
    tree_attention.is_gpu = _true  # type: ignore[assignment]


def _true(*_: Any) -> bool:
    return True


def _loss_at_once() -> None:
    """A whole block of logits in fp32 at once."""
    loss._ROWS = loss._BLOCK


#: By the name under which the benchmark reports it. "bf16" is a setting, see own.py.
TRICKS: dict[str, Callable[[], None]] = {
    "prefix sharing": _no_sharing,
    "attention as matmuls": _stock_attention,
    "loss a few rows at a time": _loss_at_once,
    "bf16": lambda: None,
}


def go_without(trick: str) -> None:
    """Takes ``trick`` away in this process; the empty name takes nothing."""
    if trick:
        TRICKS[trick]()
