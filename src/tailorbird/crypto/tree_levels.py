"""A Merkle tree that is made before some of its leaves are known for good: these are replaced, and what is above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tailorbird.crypto.merkle import EMPTY_ROOT, node_hashes


class TreeLevels:
    """The hashes of all levels, over leaf hashes. A node that is alone at the end of its level stands in the one above, too."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [[*leaves]]
        while len(level := self._levels[-1]) > 1:
            above = list(node_hashes(level))
            self._levels.append(above if len(level) % 2 == 0 else [*above, level[-1]])

    @property
    def leaves(self) -> Sequence[bytes]:
        """The leaf hashes as they are now."""
        return self._levels[0]

    @property
    def root(self) -> bytes:
        """The root over them."""
        return self._levels[-1][0] if self._levels[0] else EMPTY_ROOT

    def replace(self, leaves: Mapping[int, bytes]) -> None:
        """Puts other hashes in the places of some leaves."""
        for place, leaf in leaves.items():
            self._levels[0][place] = leaf
        changed = sorted(leaves)
        for level, above in pairwise(self._levels):
            changed = [*dict.fromkeys(place >> 1 for place in changed)]
            last = len(level) - 1
            if changed and 2 * changed[-1] == last:
                above[-1] = level[-1]
            lefts = [2 * place for place in changed if 2 * place < last]
            nodes = node_hashes([level[place] for left in lefts for place in (left, left + 1)])
            for left, node in zip(lefts, nodes, strict=True):
                above[left >> 1] = node
