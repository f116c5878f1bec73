"""Beginnings of prompts, read once and kept for the next call.

In: a servable's id, its model, tokens that a prompt begins with. Out: their keys and values. Entries are found by servable and tokens,
whole; a servable never sees another's. Must not know: messages.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from tailorbird.domain.value import Digest
from tailorbird.inference.batching import pad_left
from tailorbird.inference.memory import Growing, Prefix, no_prefix
from tailorbird.inference.model import Model

#: A beginning shorter than this is cheaper to read again than to look up.
_WORTH = 16
#: Bytes of keys and values kept in all.
_ROOM = 256 * 2**20

_Key = tuple[Digest, tuple[int, ...]]


def shared_length(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with in common, leaving every row at least one of its own; 0 when not worth sharing."""
    # The least and the greatest row differ first where any two do.
    low, high = min(rows), max(rows)
    limit = min(len(row) for row in rows) - 1
    shared = next((i for i in range(limit) if low[i] != high[i]), limit)
    return shared if shared >= _WORTH else 0


class PrefixStore:
    """The last few prefixes, the least recently used dropped first. Thread-safe."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._kept: OrderedDict[_Key, Prefix] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, servable: Digest, model: Model, tokens: Sequence[int]) -> Prefix:
        """Keys and values of ``tokens``; only those that no kept entry of this servable begins with are computed."""
        if not tokens:
            return no_prefix(model.shape)
        known = self._longest(servable, tokens)
        if known is not None and known.length == len(tokens):
            return known
        start = known or no_prefix(model.shape)
        rest = pad_left([tokens[start.length :]], start.length, model.shape.device)
        memory = Growing(start, 1, len(tokens) - start.length)
        model.hidden(rest.tokens_BT, rest.positions_BT, rest.seen_BTK(start.length), memory)
        prefix = memory.as_prefix()
        self._keep((servable, tuple(tokens)), prefix)
        return prefix

    def forget(self, servable: Digest) -> None:
        """Drops everything of a servable."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == servable]:
                del self._kept[key]

    def _longest(self, servable: Digest, tokens: Sequence[int]) -> Prefix | None:
        """The longest kept run with which ``tokens`` begins, cut from whichever entry has it."""
        with self._lock:
            best, length = None, 0
            for key in self._kept:
                common = _common(key[1], tokens) if key[0] == servable else 0
                if common > length:
                    best, length = key, common
            if best is None:
                return None
            self._kept.move_to_end(best)
            return self._kept[best].first(length)

    def _keep(self, key: _Key, prefix: Prefix) -> None:
        with self._lock:
            self._kept[key] = prefix
            while sum(kept.nbytes for kept in self._kept.values()) > self._room:
                self._kept.popitem(last=False)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many items two sequences begin with in common."""
    limit = min(len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)
