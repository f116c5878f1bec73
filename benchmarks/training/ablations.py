"""Tricks of the training loop, each of which can be taken away to see what it is worth. Used by benchmarks alone."""

from __future__ import annotations

from collections.abc import Callable

from tailorbird.training import batches, packing


def _no_sharing() -> None:
    """Every row computes its whole prompt."""
    packing.shared_prefix = lambda rows: 0
    batches.narrowed_prefix = lambda first, row, shared: 0


#: By the name under which the benchmark reports it.
TRICKS: dict[str, Callable[[], None]] = {
    "prefix sharing": _no_sharing,
}


def go_without(trick: str) -> None:
    """Takes ``trick`` away in this process; the empty name takes nothing."""
    if trick:
        TRICKS[trick]()
