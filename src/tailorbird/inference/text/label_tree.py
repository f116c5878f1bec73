"""Token trie of a task's labels, built once for each label list."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.errors import InvalidInput


@dataclass(frozen=True)
class LabelTrie:
    """Nodes in an order where parents come first. Source 0 is the prompt's last token, source ``i + 1`` is node ``i``.

    ``tokens``, ``parents`` (-1 under the prompt) and ``depths`` (1-based) describe nodes. An edge is a token predicted at a source;
    ``edge_sources`` and ``edge_tokens`` list them by ascending source. ``paths`` gives each label's edges. A label's last token is an edge
    only: nothing is predicted after it.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    edge_sources: tuple[int, ...]
    edge_tokens: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def depth(self) -> int:
        """Tokens of the longest label."""
        return max(len(path) for path in self.paths)

    @cached_property
    def ancestry(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Number of ancestors of each node (its depth, itself included), and those nodes, one node's after the other's, itself last."""
        chains: list[list[int]] = []
        for node, parent in enumerate(self.parents):
            chains.append([*(chains[parent] if parent >= 0 else []), node])
        return np.asarray(self.depths, np.int32), np.asarray([node for chain in chains for node in chain], np.int32)

    @cached_property
    def path_LE(self) -> torch.Tensor:
        """Edges of each label, filled up with one past the last edge (L labels, E the longest)."""
        none = len(self.edge_tokens)
        return torch.tensor([[*path, *[none] * (self.depth - len(path))] for path in self.paths])


def build_trie(labels: Sequence[Sequence[int]]) -> LabelTrie:
    """The trie of ``labels``, each with at least two tokens."""
    nodes: dict[tuple[int, ...], int] = {}
    for label in labels:
        for length in range(1, len(label)):
            nodes.setdefault(tuple(label[:length]), len(nodes))
    source = {(): 0} | {path: node + 1 for path, node in nodes.items()}
    wanted = {(source[tuple(label[:i])], token) for label in labels for i, token in enumerate(label)}
    edges = {edge: index for index, edge in enumerate(sorted(wanted))}
    return LabelTrie(
        tokens=tuple(path[-1] for path in nodes),
        parents=tuple(source[path[:-1]] - 1 for path in nodes),
        depths=tuple(len(path) for path in nodes),
        edge_sources=tuple(at for at, _ in edges),
        edge_tokens=tuple(token for _, token in edges),
        paths=tuple(tuple(edges[source[tuple(label[:i])], token] for i, token in enumerate(label)) for label in labels),
    )


#: Lists of labels whose tries are kept.
_KEPT = 64


class LabelTrees:
    """The tries of one format's labels, the last few kept. Thread-safe."""

    def __init__(self, chat: ChatTokenizer) -> None:
        self._chat = chat
        self._kept: OrderedDict[tuple[str, ...], LabelTrie] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, labels: Sequence[str]) -> LabelTrie:
        """The trie of ``labels`` as complete answers. Raises InvalidInput when they cannot be told apart."""
        key = tuple(labels)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tree = self._built(key)
        with self._lock:
            self._kept[key] = tree
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return tree

    def _built(self, labels: tuple[str, ...]) -> LabelTrie:
        if not labels:
            raise InvalidInput("there are no labels to score", "give at least one label")
        answers = self._chat.answers(labels)
        if any(map(self._chat.is_empty, answers)):
            raise InvalidInput("a label has no tokens", "give every label a name that is not empty", code="label_empty")
        if len({tuple(answer) for answer in answers}) < len(labels):
            raise InvalidInput("two labels are the same", "name every label once")
        return build_trie(answers)
