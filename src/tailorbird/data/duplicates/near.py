"""Near-duplicates: texts that share most of their character 5-grams.

In: distinct normalised texts. Out: pairs that tie all near-duplicates together. Must not know: rows, labels, splits.

Two texts are near-duplicates when the Jaccard similarity of their sets of 5-grams is at least 4/5. The search is exact: texts are taken
by size, and with the grams of all in one fixed order, a text of n grams shares one of its first n/5 + 1 with one of the first m/9 + 1
of each near-duplicate of m <= n grams (prefix filtering: Bayardo, Ma & Srikant 2007; Xiao et al. 2008). With the rarest grams first
there are few candidates. Of their m grams at most (5m - 4n) / 9 may lack, which sketches rule out for most; the rest are compared.
MinHash would be approximate, and a new version of its library could move rows between splits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

#: Characters in a gram.
GRAM = 5


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices into ``texts`` such that chains of pairs connect exactly the chains of near-duplicates.

    A pair that is connected already is left out, so that n texts give fewer than n pairs.
    """
    frequency = Counter(gram for text in texts for gram in grams(text))
    sketches = [sketch(grams(text)) for text in texts]
    index: dict[str, list[int]] = defaultdict(list)
    forest = Forest(len(texts))
    pairs: list[tuple[int, int]] = []
    for this in sorted(range(len(texts)), key=lambda place: sketches[place].size):
        mine, drawn = grams(texts[this]), sketches[this]
        rarest = sorted(mine, key=lambda gram: (frequency[gram], gram))
        for other in {other for gram in rarest[: drawn.size // 5 + 1] for other in index[gram]}:
            if sketches[other].may_be_like(drawn) and not forest.joined(this, other) and alike(mine, grams(texts[other])):
                forest.join(this, other)
                pairs.append((other, this))
        for gram in rarest[: drawn.size // 9 + 1]:
            index[gram].append(this)
    return pairs


class Sketch(NamedTuple):
    """How many grams a text has, and a bit for each of them among ``width`` (several may share one)."""

    size: int
    width: int
    bits: int

    def lacking(self, other: Sketch) -> int:
        """A lower bound on the grams that ``other`` does not have: bits that it lacks."""
        width = min(self.width, other.width)
        return (_folded(self, width) & ~_folded(other, width)).bit_count()

    def may_be_like(self, larger: Sketch) -> bool:
        """False when the texts are surely no near-duplicates."""
        return 5 * self.size >= 4 * larger.size and 9 * self.lacking(larger) <= 5 * self.size - 4 * larger.size


def sketch(of: set[str]) -> Sketch:
    """The sketch of a set of grams: about 8 to 16 bits a gram, from 512 to 65,536 in all."""
    width = 1 << min(16, max(9, (8 * len(of)).bit_length()))
    places = bytearray(width // 8)
    for gram in of:
        place = hash(gram) % width
        places[place >> 3] |= 1 << (place & 7)
    return Sketch(len(of), width, int.from_bytes(places, "little"))


def _folded(of: Sketch, width: int) -> int:
    """The bits that a sketch of half the width would have. Near-duplicates differ too little in size for more than one fold."""
    return of.bits if of.width == width else (of.bits >> width) | (of.bits & ((1 << width) - 1))


def grams(text: str) -> set[str]:
    """The set of 5-grams of ``text``; a shorter text is one gram."""
    return {text[start : start + GRAM] for start in range(max(1, len(text) - GRAM + 1))}


def alike(one: set[str], other: set[str]) -> bool:
    """True when the Jaccard similarity is at least 4/5, in whole numbers, so that no rounding decides."""
    shared = len(one & other)
    return 5 * shared >= 4 * (len(one) + len(other) - shared)


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
