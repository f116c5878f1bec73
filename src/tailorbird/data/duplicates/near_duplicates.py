"""Near-duplicates: texts of which most characters, or most words, are the same.

Texts that meet in a bucket of the text index are candidates; each pair is then compared exactly, so precision is full and recall is high
(docs/data.md gives it). In a bucket with many texts each is compared with the few before it, in the order of appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates import edit_similarity, minhash, shared_text
from tailorbird.data.duplicates.components import component_labels
from tailorbird.data.duplicates.edit_similarity import byte_sums
from tailorbird.data.duplicates.text_index import index_texts
from tailorbird.data.key_order import key_order, mixed

#: What decides which texts are near-duplicates. Stored with every snapshot.
SCHEME = f"{shared_text.SCHEME} {minhash.SIGNATURE_SCHEME} window-16/2 {edit_similarity.EDIT_SCHEME}"

#: Texts of a bucket with which each text of it is compared.
WINDOW = 16

#: Two texts are compared when at least so many of 64 places agree (alike texts agree in 20 to 64).
AGREEING = 17

#: Texts of so many characters are compared once, however often they meet: long ones meet in most buckets, and each comparison takes
#: milliseconds. Of shorter ones a look costs as much as the comparison.
LONG = 2000

#: Pairs that are compared at once.
_BATCH = 200_000
#: Pairs that are told apart at once.
_PIECE = 4096

Places = NDArray[np.intp]


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (smaller index first, sorted) such that chains of pairs connect chains of near-duplicates.

    A pair that earlier buckets have connected already is left out.
    """
    return _NearSearch(texts).pairs()


class _NearSearch:
    """The search, with what is needed to tell most pairs apart without comparing them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._index = index_texts(texts)
        self._group_N = np.arange(len(texts), dtype=np.int32)
        self._ones = list[int]()
        self._others = list[int]()
        self._grouped = 0
        #: So many pairs are looked at that it is worth while to have each text's in one place.
        self._signatures_NP = np.ascontiguousarray(self._index.signatures_PN.T)
        self._apart = np.empty(0, dtype=np.int64)
        self._found_apart = list[NDArray[np.int64]]()

    def pairs(self) -> list[tuple[int, int]]:
        """Those that no earlier band has connected, in their order."""
        for order_N, sorted_N in self._ordered():
            for one_C, other_C in meetings(order_N, sorted_N):
                for start in range(0, len(one_C), _BATCH):
                    found = self._compared(*self._likely(one_C[start : start + _BATCH], other_C[start : start + _BATCH]))
                    self._ones += found[0]
                    self._others += found[1]
            self._group()
        return sorted(zip(self._ones, self._others, strict=True))

    def _group(self) -> None:
        """Groups the texts anew, where pairs were added."""
        if len(self._ones) > self._grouped:
            self._group_N = component_labels(self._index.size, self._ones, self._others)
            self._grouped = len(self._ones)
        if self._found_apart:
            self._apart = np.union1d(self._apart, np.concatenate(self._found_apart))
            self._found_apart.clear()

    def _ordered(self) -> Iterator[tuple[Places, NDArray[np.uint64]]]:
        """For each band the order of the texts by their buckets, and these in it. Those of the next band are found while this one is
        compared."""

        def ordered(band: int) -> tuple[Places, NDArray[np.uint64]]:
            return key_order(mixed(minhash.band(self._index.signatures_PN, band)))

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(ordered, 0)
            for band in range(1, minhash.BANDS):
                found, coming = coming.result(), pool.submit(ordered, band)
                yield found
            yield coming.result()

    def _likely(self, one_C: Places, other_C: Places) -> tuple[Places, Places]:
        """Those that could be alike, by what needs no text."""
        for differs in (self._ungrouped, self._near_in_length, self._near_in_letters, self._agreeing):
            kept_C = np.flatnonzero(differs(one_C, other_C))
            one_C, other_C = one_C.take(kept_C), other_C.take(kept_C)
        return one_C, other_C

    def _compared(self, one_C: Places, other_C: Places) -> tuple[list[int], list[int]]:
        """Those that are alike, by their texts."""
        if len(self._apart):
            key_C = _keys(one_C, other_C)
            fresh_C = np.flatnonzero(self._apart.take(np.searchsorted(self._apart, key_C), mode="clip") != key_C)
            one_C, other_C = one_C.take(fresh_C), other_C.take(fresh_C)
        ones, others = one_C.tolist(), other_C.tolist()
        if not ones:
            return [], []
        alike_C = edit_similarity.alike_pairs(
            [self._texts[one] for one in ones], [self._texts[other] for other in others], self._reorderable(one_C, other_C)
        )
        lengths_N = self._index.lengths_N
        apart_C = np.flatnonzero(~alike_C & (np.minimum(lengths_N.take(one_C), lengths_N.take(other_C)) >= LONG))
        if len(apart_C):
            self._found_apart.append(_keys(one_C.take(apart_C), other_C.take(apart_C)))
        return one_C[alike_C].tolist(), other_C[alike_C].tolist()

    def _ungrouped(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return np.asarray(self._group_N[one_C] != self._group_N[other_C])

    def _near_in_length(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        one_lengths, other_lengths = self._index.lengths_N[one_C], self._index.lengths_N[other_C]
        return np.asarray(np.abs(one_lengths - other_lengths) <= np.maximum(one_lengths, other_lengths) // edit_similarity.SHARE)

    def _near_in_letters(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return self._in_pieces(one_C, other_C, lambda one_C, other_C: edit_similarity.may_be_alike(*self._letters(one_C, other_C)))

    def _reorderable(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return self._in_pieces(one_C, other_C, lambda one_C, other_C: edit_similarity.may_be_reordered(*self._letters(one_C, other_C)))

    def _letters(self, one_C: Places, other_C: Places) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
        lengths_N, counted_NB = self._index.lengths_N, self._index.histograms_NB
        return counted_NB.take(one_C, axis=0), counted_NB.take(other_C, axis=0), np.maximum(lengths_N.take(one_C), lengths_N.take(other_C))

    def _agreeing(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return self._in_pieces(one_C, other_C, self._agree)

    def _agree(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        same_CP = self._signatures_NP.take(one_C, axis=0) == self._signatures_NP.take(other_C, axis=0)
        return np.asarray(byte_sums(same_CP.view(np.uint8)) >= AGREEING)

    @staticmethod
    def _in_pieces(one_C: Places, other_C: Places, told: Callable[[Places, Places], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """What is told of pairs, piece by piece: what is looked up for a piece stays in the processor's cache."""
        told_C = np.empty(len(one_C), dtype=np.bool_)
        for start in range(0, len(one_C), _PIECE):
            told_C[start : start + _PIECE] = told(one_C[start : start + _PIECE], other_C[start : start + _PIECE])
        return told_C


def _keys(one_C: Places, other_C: Places) -> NDArray[np.int64]:
    """A number for each pair, whichever of the two is named first."""
    return np.asarray(np.minimum(one_C, other_C) << 32 | np.maximum(one_C, other_C))


def meetings(order_N: Places, sorted_N: NDArray[np.uint64]) -> Iterator[tuple[Places, Places]]:
    """Places with the same key: each with the next one, the next but one, and so on, as far as ``WINDOW``. ``order_N`` sorts the keys, and
    keeps the order of equal ones; ``sorted_N`` are the keys in it."""
    for step in range(1, min(WINDOW, len(sorted_N) - 1) + 1):
        meeting = np.flatnonzero(sorted_N[step:] == sorted_N[:-step])
        if not len(meeting):
            return
        yield order_N.take(meeting), order_N.take(meeting + step)
