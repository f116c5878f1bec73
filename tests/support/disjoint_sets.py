"""Disjoint sets of numbers.

In: joins. Out: the set that a number is in. Must not know: what the numbers stand for.
"""

from __future__ import annotations


class Forest:
    """Disjoint sets of the numbers below ``size`` (union by index, path halving)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, node: int) -> int:
        """The smallest number of the set that ``node`` is in."""
        parent = self._parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(self, one: int, other: int) -> None:
        """Makes one set of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def joined(self, one: int, other: int) -> bool:
        """True when both are in one set."""
        return self.root(one) == self.root(other)
