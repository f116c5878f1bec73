"""Caches of transformers by sequence, and the ways to put several beside one another: stacked, apart again, repeated."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

#: Kinds of layer whose tensors are known here; a cache with another kind is not used.
_KNOWN = (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(eq=False)
class SequenceCache:
    """The cache of one sequence, or of several that are stacked. ``history`` is the list of its tokens, the same object as the sequence's,
    of which the first ``length`` are in it."""

    content: Any
    history: Sequence[int]
    length: int


@dataclass(eq=False)
class StackedCache:
    """Caches of several sequences as the rows of one, filled up on the left."""

    content: Any
    rows: list[SequenceCache]

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(row.length for row in self.rows)


def is_known(cache: Any) -> bool:
    """True where every layer is of a kind whose tensors are known here."""
    return all(type(layer) in _KNOWN for layer in cache.layers)


def nbytes_of(cache: Any) -> int:
    """Bytes of all tensors in a cache."""
    return sum(tensor.nbytes for layer in cache.layers for tensor in _tensors(vars(layer).values()))


def _tensors(values: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            found.append(value)
        elif isinstance(value, dict):
            found.extend(_tensors(value.values()))
    return found


def _changed(layer: Any, of_tokens: Change, of_state: Change) -> Any:
    """A copy of a layer: keys and values (B, H, T, D) changed by the first, running states (B, ...) by the second."""
    made = copy.copy(layer)
    if isinstance(layer, DynamicLayer) and layer.is_initialized and layer.keys is not None and layer.keys.numel():
        assert layer.values is not None
        made.keys, made.values = of_tokens(layer.keys), of_tokens(layer.values)
    if isinstance(layer, LinearAttentionLayer):
        for name in ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state", "conv_kernel_size"):
            setattr(made, name, dict(getattr(layer, name)))
        for name in ("conv_states", "recurrent_states"):
            states = {place: None if state is None else of_state(state) for place, state in getattr(layer, name).items()}
            setattr(made, name, states)
    return made


def _with_layers(cache: Any, layers: list[Any]) -> Any:
    made = copy.copy(cache)
    made.layers = layers
    return made


def repeated(cache: Any, rows: int) -> Any:
    """``rows`` copies of a cache of one row; what is computed on them leaves the original as it was."""
    # Keys and values are never written in place; states are.
    layers = [
        _changed(layer, lambda kept: kept.expand(rows, -1, -1, -1), lambda state: state.repeat(rows, *[1] * (state.ndim - 1)))
        for layer in cache.layers
    ]
    return _with_layers(cache, layers)


def stacked(caches: Sequence[SequenceCache]) -> StackedCache:
    """Caches of one row each as the rows of one; shorter ones are filled up on the left."""
    layers = []
    for place, first in enumerate(caches[0].content.layers):
        each = [cache.content.layers[place] for cache in caches]
        layers.append(_stacked_layer(first, each))
    return StackedCache(_with_layers(caches[0].content, layers), list(caches))


def _stacked_layer(first: Any, each: list[Any]) -> Any:
    made = _changed(first, lambda kept: kept, lambda state: state)
    if isinstance(first, DynamicLayer) and first.is_initialized and first.keys is not None and first.keys.numel():
        widest = max(layer.keys.shape[2] for layer in each)
        made.keys, made.values = (
            torch.cat([F.pad(tensor, (0, 0, widest - tensor.shape[2], 0)) for tensor in tensors])
            for tensors in ([layer.keys for layer in each], [layer.values for layer in each])
        )
        if isinstance(first, DynamicSlidingWindowLayer):
            made.cumulative_length = max(layer.cumulative_length for layer in each)
    if isinstance(first, LinearAttentionLayer):
        for name in ("conv_states", "recurrent_states"):
            states = getattr(made, name)
            for place, state in states.items():
                if state is not None:
                    states[place] = torch.cat([getattr(layer, name)[place] for layer in each])
    return made


def apart(stack: StackedCache) -> None:
    """Gives each row its own cache again, without what it was filled up with."""
    for at, row in enumerate(stack.rows):
        layers = [_row_of(layer, at, row.length) for layer in stack.content.layers]
        row.content = _with_layers(stack.content, layers)


def _row_of(layer: Any, at: int, length: int) -> Any:
    made = _changed(
        layer,
        lambda kept: kept[at : at + 1, :, max(0, kept.shape[2] - length) :].clone(),
        lambda state: state[at : at + 1].clone(),
    )
    if isinstance(made, DynamicSlidingWindowLayer):
        made.cumulative_length = length
    return made


class CacheStore:
    """Caches of running sequences, by the first block of each. A missing one is no fault: its tokens are computed again.

    ``release`` may be called by any thread; everything else by the one that computes.
    """

    def __init__(self) -> None:
        self._rows: dict[int, SequenceCache] = {}
        self._stacks: list[StackedCache] = []
        self._lock = threading.Lock()

    def find(self, block: int, history: Sequence[int], length: int) -> SequenceCache | None:
        """The cache of a sequence of which exactly ``length`` tokens are computed."""
        with self._lock:
            found = self._rows.get(block)
            if found is not None and found.content is None and not any(found in stack.rows for stack in self._stacks):
                return None  # a step that failed has taken its stack apart halfway
        return found if found is not None and found.history is history and found.length == length else None

    def keep(self, block: int, cache: SequenceCache) -> None:
        """The cache of a sequence that begins. Whatever its block stood for is over."""
        with self._lock:
            self._rows[block] = cache

    def release(self, block: int) -> None:
        """A sequence is over."""
        with self._lock:
            self._rows.pop(block, None)
            live = {id(row) for row in self._rows.values()}
            self._stacks = [stack for stack in self._stacks if any(id(row) in live for row in stack.rows)]

    def discard(self, cache: SequenceCache) -> None:
        """What a failed step may have left half written is not read again."""
        with self._lock:
            self._rows = {block: row for block, row in self._rows.items() if row is not cache}

    def alone(self, row: SequenceCache) -> Any:
        """The content of a row's own cache, taken out of its stack where it stands in one."""
        self._take_apart([row])
        return row.content

    def stack(self, rows: list[SequenceCache]) -> StackedCache:
        """The rows stacked in this order; the stack of the last step where it has the same."""
        with self._lock:
            for stack in self._stacks:
                if len(stack.rows) == len(rows) and all(a is b for a, b in zip(stack.rows, rows, strict=True)):
                    return stack
        self._take_apart(rows)
        made = stacked(rows)
        for row in rows:
            row.content = None
        with self._lock:
            self._stacks.append(made)
        return made

    def _take_apart(self, rows: list[SequenceCache]) -> None:
        wanted = {id(row) for row in rows}
        with self._lock:
            live = {id(row) for row in self._rows.values()} | wanted
            touched = [stack for stack in self._stacks if any(id(row) in wanted for row in stack.rows)]
            self._stacks = [stack for stack in self._stacks if stack not in touched]
        for stack in touched:
            apart(stack)
            for row in stack.rows:
                if id(row) not in live:
                    row.content = None
