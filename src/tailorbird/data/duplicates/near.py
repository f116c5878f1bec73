"""Near-duplicates: texts of which most characters, or most words, are the same.

    signatures → near ← likeness

In: distinct normalised texts. Out: pairs that tie near-duplicates together. Must not know: rows, labels, splits.

Texts that meet in a bucket are candidates; each pair is then compared exactly, so that what is found is right, and what is missed is rare
(docs/data.md says how rare). In a bucket with many texts each is compared with the next few, in the order of their spelling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tailorbird.data.duplicates import likeness, signatures

#: What decides which texts are near-duplicates. Stored with every snapshot.
SCHEME = f"{signatures.SCHEME} {likeness.SCHEME}"

#: Texts of a bucket with which each text of it is compared.
WINDOW = 16

#: Two texts are compared when at least so many of 64 places agree (alike texts agree in 20 to 64).
AGREEING = 17

#: Pairs that are compared at once.
_BATCH = 200_000

Places = NDArray[np.intp]


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (smaller index first, sorted) such that chains of pairs connect chains of near-duplicates.

    A pair that earlier buckets have connected already is left out.
    """
    if len(texts) < 2:
        return []
    return sorted(_Search(texts).pairs())


class _Search:
    """Texts sorted by spelling, with what is needed to tell most pairs apart without comparing them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._order = sorted(range(len(texts)), key=texts.__getitem__)
        self._texts = [texts[place] for place in self._order]
        self._lengths_N = np.fromiter(map(len, self._texts), np.int32, len(texts))
        self._signatures_NP = signatures.sign(self._texts)
        self._histograms_NB = likeness.histograms(self._texts)
        self._group_N = np.arange(len(texts), dtype=np.int32)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Pairs of places in the texts as they were given."""
        ones: list[int] = []
        others: list[int] = []
        for keys_N in signatures.bands(self._signatures_NP):
            before = len(ones)
            for one_C, other_C in meetings(keys_N):
                for start in range(0, len(one_C), _BATCH):
                    found = self._alike(one_C[start : start + _BATCH], other_C[start : start + _BATCH])
                    ones += found[0]
                    others += found[1]
            if len(ones) > before:
                self._group_N = _components(len(self._texts), ones, others)
        for one, other in zip(ones, others, strict=True):
            low, high = sorted((self._order[one], self._order[other]))
            yield low, high

    def _alike(self, one_C: Places, other_C: Places) -> tuple[list[int], list[int]]:
        for differs in (self._ungrouped, self._near_in_length, self._near_in_letters, self._agreeing):
            kept_C = differs(one_C, other_C)
            one_C, other_C = one_C[kept_C], other_C[kept_C]
        ones, others = one_C.tolist(), other_C.tolist()
        if not ones:
            return [], []
        alike_C = likeness.alike_pairs([self._texts[one] for one in ones], [self._texts[other] for other in others])
        return one_C[alike_C].tolist(), other_C[alike_C].tolist()

    def _ungrouped(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return np.asarray(self._group_N[one_C] != self._group_N[other_C])

    def _near_in_length(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        one_lengths, other_lengths = self._lengths_N[one_C], self._lengths_N[other_C]
        return np.asarray(np.abs(one_lengths - other_lengths) <= np.maximum(one_lengths, other_lengths) // likeness.SHARE)

    def _near_in_letters(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        longest = np.maximum(self._lengths_N[one_C], self._lengths_N[other_C])
        return likeness.may_be_alike(self._histograms_NB[one_C], self._histograms_NB[other_C], longest)

    def _agreeing(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return np.asarray((self._signatures_NP[one_C] == self._signatures_NP[other_C]).sum(axis=1) >= AGREEING)


def meetings(keys_N: NDArray[np.uint64]) -> Iterator[tuple[Places, Places]]:
    """Places with the same key: each with the next one, the next but one, and so on, as far as ``WINDOW``."""
    order_N = np.argsort(keys_N, kind="stable")
    sorted_N = keys_N[order_N]
    for step in range(1, min(WINDOW, len(keys_N) - 1) + 1):
        meeting = np.flatnonzero(sorted_N[step:] == sorted_N[:-step])
        if not len(meeting):
            return
        yield order_N[meeting], order_N[meeting + step]


def _components(size: int, ones: list[int], others: list[int]) -> NDArray[np.int32]:
    graph = coo_array((np.ones(len(ones), dtype=np.int8), (ones, others)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1])
