"""The labels of a task as one tree of tokens: what labels begin with in common is computed once.

In: each label's tokens, the end of the turn last. Out: the nodes to compute and the edges to read. Must not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class LabelTrie(NamedTuple):
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

    def ancestors_NN(self) -> torch.Tensor:
        """True at (node, other) where ``other`` is the node itself or lies on its way up to the prompt."""
        above_NN = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                above_NN[node] |= above_NN[parent]
        return above_NN

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
