"""Batch of one step: tokens of many sequences in one row, with KV-cache slots and attention ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.inference.scheduling import BLOCK
from tailorbird.inference.text.label_tree import LabelTrie

Ints = NDArray[np.int32]


class Part(NamedTuple):
    """Tokens of a sequence from its index ``start`` on, whose blocks are ``blocks``. Results are wanted after token ``watched`` and those
    behind it, and after each node of ``tree``, which hangs under the last token. ``adapter`` is what the sequence is computed with (None:
    the bare weights); ``history`` are all tokens of the sequence, the same list in each step."""

    adapter: Any
    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    watched: int
    tree: LabelTrie | None = None
    leaf_blocks: Sequence[int] = ()
    history: Sequence[int] = ()


class AdapterGroup(NamedTuple):
    """Neighbouring rows that are computed with the same adapter."""

    start: int
    stop: int
    adapter: Any


class Batch(NamedTuple):
    """See the module. ``runs`` are the rows of each part, ``wants`` (M) the rows whose result is wanted, part by part; ``parts`` what it
    was built from."""

    tokens: Ints
    positions: Ints
    slots: Ints
    contexts: Ints
    tables: Ints
    table_at: Ints
    branches: Ints
    branch_at: Ints
    branch_count: Ints
    wants: Ints
    groups: tuple[AdapterGroup, ...]
    runs: tuple[tuple[int, int], ...]
    parts: tuple[Part, ...] = ()


class _Columns:
    """The arrays of a batch in the making."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Ints]] = {name: [] for name in Batch._fields[:10]}
        self.rows = self.tables = self.branches = 0
        self.groups: list[AdapterGroup] = []
        self.runs: list[tuple[int, int]] = []

    def put(self, **columns: Ints) -> None:
        for name, values in columns.items():
            self.parts[name].append(values)

    def add(self, part: Part) -> None:
        before, tokens = self.rows, len(part.tokens)
        places = np.arange(part.start, part.start + tokens, dtype=np.int32)
        table = np.asarray(part.blocks, dtype=np.int32)
        self.put(tokens=np.asarray(part.tokens, dtype=np.int32), positions=places, contexts=places + 1)
        self.put(slots=table[places // BLOCK] * BLOCK + places % BLOCK)
        nodes = 0
        if part.tree is None:
            self.put(branch_at=np.zeros(tokens, np.int32), branch_count=np.zeros(tokens, np.int32))
        else:
            nodes = self._add_tree(part, part.tree, part.start + tokens)
        self.put(wants=np.arange(before + max(0, min(part.watched - part.start, tokens)), before + tokens + nodes, dtype=np.int32))
        self.put(tables=table, table_at=np.full(tokens + nodes, self.tables, np.int32))
        self.tables += len(table)
        self.rows += tokens + nodes
        self.runs.append((before, self.rows))
        start = before
        adapter = part.adapter
        if self.groups and self.groups[-1].adapter is adapter:
            start = self.groups.pop().start
        self.groups.append(AdapterGroup(start, self.rows, adapter))

    def _add_tree(self, part: Part, tree: LabelTrie, length: int) -> int:
        """Nodes stand under the sequence's last token; each sees the whole sequence, its ancestors and itself."""
        nodes, tokens = len(tree.tokens), len(part.tokens)
        leaves = np.asarray(part.leaf_blocks, dtype=np.int32)
        places = np.arange(nodes, dtype=np.int32)
        slots = leaves[places // BLOCK] * BLOCK + places % BLOCK
        counts, chain = tree.ancestry
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
        self.put(tokens=np.asarray(tree.tokens, np.int32), positions=length - 1 + counts, contexts=np.full(nodes, length, np.int32))
        self.put(slots=slots, branches=slots[chain])
        self.put(branch_at=np.concatenate([np.zeros(tokens, np.int32), self.branches + starts]))
        self.put(branch_count=np.concatenate([np.zeros(tokens, np.int32), counts]))
        self.branches += len(chain)
        return nodes


def build_batch(parts: Iterable[Part]) -> Batch:
    """One batch of ``parts`` in their order; those of one adapter should be neighbours."""
    columns, given = _Columns(), tuple(parts)
    for part in given:
        columns.add(part)
    empty = np.zeros(0, np.int32)
    flat = {name: np.ascontiguousarray(np.concatenate(found), np.int32) if found else empty for name, found in columns.parts.items()}
    return Batch(**flat, groups=tuple(columns.groups), runs=tuple(columns.runs), parts=given)
