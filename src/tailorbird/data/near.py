"""Near-duplicates: texts that share most of their character 5-grams.

In: distinct normalised texts. Out: pairs that tie all near-duplicates together. Must not know: rows, labels, splits.

Two texts are near-duplicates when the Jaccard similarity of their sets of 5-grams is at least 4/5. The search is exact: with the grams
of all texts in one fixed order, two such texts share a gram among the first n - ceil(4n/5) + 1 of each (prefix filtering; Chaudhuri et
al. 2006, Bayardo et al. 2007). With the rarest grams first there are few candidates, and each is verified. Sketches (MinHash) would be
approximate, and a new version of their library could move rows between splits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

#: Characters in a gram.
GRAM = 5


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices into ``texts`` such that chains of pairs connect exactly the chains of near-duplicates.

    A pair that is connected already is left out, so that n texts give fewer than n pairs.
    """
    frequency = Counter(gram for text in texts for gram in grams(text))
    sizes = [len(grams(text)) for text in texts]
    index: dict[str, list[int]] = defaultdict(list)
    forest = Forest(len(texts))
    pairs: list[tuple[int, int]] = []
    for this in sorted(range(len(texts)), key=sizes.__getitem__):
        mine = grams(texts[this])
        prefix = sorted(mine, key=lambda gram: (frequency[gram], gram))[: len(mine) - _share(len(mine)) + 1]
        for gram in prefix:
            for other in index[gram]:
                if 5 * sizes[other] >= 4 * len(mine) and not forest.joined(this, other) and alike(mine, grams(texts[other])):
                    forest.join(this, other)
                    pairs.append((other, this))
            index[gram].append(this)
    return pairs


def grams(text: str) -> set[str]:
    """The set of 5-grams of ``text``; a shorter text is one gram."""
    return {text[start : start + GRAM] for start in range(max(1, len(text) - GRAM + 1))}


def alike(one: set[str], other: set[str]) -> bool:
    """True when the Jaccard similarity is at least 4/5, in whole numbers, so that no rounding decides."""
    shared = len(one & other)
    return 5 * shared >= 4 * (len(one) + len(other) - shared)


def _share(size: int) -> int:
    """ceil(4/5 of ``size``): the grams that a text must share at least."""
    return (4 * size + 4) // 5


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
