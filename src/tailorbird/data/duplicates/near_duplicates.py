"""Near-duplicates: texts of which most characters, or most words, are the same.

Texts that meet in a bucket of their signatures are candidates; each pair is then compared exactly, so precision is full and recall is high.
In a bucket with many texts each is compared with the few before it, in the order of appearance.

Two texts are alike when at most a seventh of the longer one's characters must be edited; or, the order of words aside, a tenth. The edits
are counted exactly (Levenshtein 1966, by rapidfuzz), in whole numbers: no rounding and no version of a library decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

from tailorbird.data.duplicates import minhash, shared_text
from tailorbird.data.duplicates.components import component_labels
from tailorbird.data.duplicates.minhash import Signatures, key_order, mixed, sign

#: The version of what follows: with ``SIGNATURE_SCHEME`` it decides which rows are near-duplicates.
EDIT_SCHEME = "edits-1/7-any-order-1/10/2"


#: One in so many characters of the longer text may be edited. With one in five, chains of messages about one thing swallow each other.
SHARE = 7


#: The same where words may stand in any order: then more texts are alike by chance.
SHARE_REORDERED = 10


#: Of so few words each is looked for in the other list; of more they are counted.
_FEW_WORDS = 24


#: Every other byte of a word; a byte; what adds up the four parts of 16 bits in the last one; where that begins.
_EVEN, _BYTE, _EACH, _LAST = (np.uint64(number) for number in (0x00FF00FF00FF00FF, 8, 0x0001000100010001, 48))

#: Bins into which characters are counted.
BINS = 32


def alike(one: str, other: str) -> bool:
    """True when at most a seventh of the characters of the longer text must be edited, or a tenth with words in any order."""
    allowed = max(len(one), len(other)) // SHARE
    if Levenshtein.distance(one, other, score_cutoff=allowed) <= allowed:
        return True
    return _reordered(one, other)


def alike_pairs(ones: Sequence[str], others: Sequence[str], orders_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``alike`` for each pair, bool[N]. ``orders_N`` is False for pairs that are surely not alike in another order of their words."""
    allowed_N = np.fromiter(map(len, ones), np.int32, len(ones))
    allowed_N = np.maximum(allowed_N, np.fromiter(map(len, others), np.int32, len(others))) // SHARE
    found_N = np.zeros(len(ones), dtype=np.bool_)
    for place_C in _of_like_length(allowed_N):
        found_N[place_C] = _within(ones, others, place_C, allowed_N[place_C])
    for place in np.flatnonzero(orders_N & ~found_N).tolist():
        found_N[place] = _reordered(ones[place], others[place])
    return found_N


def _of_like_length(allowed_N: NDArray[np.int32]) -> Iterator[NDArray[np.intp]]:
    """The places of pairs in groups whose numbers of edits differ little: far more edits than a pair may have need not be counted then."""
    order_N = np.argsort(allowed_N, kind="stable")
    start = 0
    while start < len(order_N):
        most = allowed_N[order_N[start]] * 5 // 4 + 4
        end = int(np.searchsorted(allowed_N[order_N], most, side="right"))
        yield order_N[start:end]
        start = end


def _within(ones: Sequence[str], others: Sequence[str], place_C: NDArray[np.intp], allowed_C: NDArray[np.int32]) -> NDArray[np.bool_]:
    places, most = place_C.tolist(), int(allowed_C.max())
    left, right = [ones[place] for place in places], [others[place] for place in places]
    edits_C = cpdist(left, right, scorer=Levenshtein.distance, score_cutoff=most, dtype=np.int32, workers=1)
    return np.asarray(edits_C <= allowed_C)


def histograms(texts: Sequence[str]) -> NDArray[np.uint8]:
    """How often each text has characters of each bin, uint8[N, 32], at most 255."""
    counted_NB = np.empty((len(texts), BINS), dtype=np.uint8)
    for start in range(0, len(texts), 8192):
        block = texts[start : start + 8192]
        lengths_N = np.fromiter(map(len, block), np.intp, len(block))
        points_C = np.frombuffer("".join(block).encode("utf-32-le", "surrogatepass"), dtype="<u4") % BINS
        places_C = np.repeat(np.arange(len(block)) * BINS, lengths_N) + points_C
        counts_NB = np.bincount(places_C, minlength=len(block) * BINS).reshape(-1, BINS)
        counted_NB[start : start + len(block)] = np.minimum(counts_NB, 255)
    return counted_NB


def may_be_alike(ones_NB: NDArray[np.uint8], others_NB: NDArray[np.uint8], longest_N: NDArray[np.int32]) -> NDArray[np.bool_]:
    """False for pairs that are surely not alike: an edit changes at most one count up and one down, wherever words stand.

    ``longest_N`` is the length of each pair's longer text.
    """
    return np.asarray(_apart(ones_NB, others_NB) <= 2 * (longest_N // SHARE))


def may_be_reordered(ones_NB: NDArray[np.uint8], others_NB: NDArray[np.uint8], longest_N: NDArray[np.int32]) -> NDArray[np.bool_]:
    """False for pairs that are surely not alike in another order of their words: one space may go with the last word that both have."""
    return np.asarray(_apart(ones_NB, others_NB) <= 2 * (longest_N // SHARE_REORDERED) + 1)


def _apart(ones_NB: NDArray[np.uint8], others_NB: NDArray[np.uint8]) -> NDArray[np.int32]:
    return byte_sums(np.maximum(ones_NB, others_NB) - np.minimum(ones_NB, others_NB))


def byte_sums(numbers_NB: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The sum of each row of at most 128 numbers, eight for each word of 64 bits: a tenth of the time of ``sum``. Rows lie side by side."""
    words_NW = numbers_NB.view(np.uint64)
    sums_N = np.zeros(len(words_NW), dtype=np.uint64)
    for words_N in words_NW.T:
        sums_N += (words_N & _EVEN) + ((words_N >> _BYTE) & _EVEN)  # four sums of 16 bits
    return ((sums_N * _EACH) >> _LAST).astype(np.int32)


def _reordered(one: str, other: str) -> bool:
    """Words that both have, as often as both have them, are taken out; what is left must be near, in its order or sorted."""
    allowed = max(len(one), len(other)) // SHARE_REORDERED
    if abs(len(one) - len(other)) > allowed:
        return False
    # Both without the words that both have, each as often as both have it.
    words = one.split()
    others = other.split()
    if min(len(words), len(others)) > _FEW_WORDS:
        left, right = _unshared_of_many(words, others)
    else:
        left, right = list[str](), others.copy()
        for word in words:
            if word in right:
                right.remove(word)
            else:
                left.append(word)
    if Levenshtein.distance(" ".join(left), " ".join(right), score_cutoff=allowed) <= allowed:
        return True
    return bool(Levenshtein.distance(" ".join(sorted(left)), " ".join(sorted(right)), score_cutoff=allowed) <= allowed)


def _unshared_of_many(words: list[str], others: list[str]) -> tuple[list[str], list[str]]:
    """The same in a time that grows with the words alone. Plain dictionaries: a Counter takes five times as long."""
    counts: dict[str, int] = {}
    for word in others:
        counts[word] = counts.get(word, 0) + 1
    shared: dict[str, int] = {}
    left = list[str]()
    for word in words:
        if counts.get(word):
            counts[word] -= 1
            shared[word] = shared.get(word, 0) + 1
        else:
            left.append(word)
    right = list[str]()
    for word in others:
        if shared.get(word):
            shared[word] -= 1
        else:
            right.append(word)
    return left, right


@dataclass(frozen=True)
class TextIndex:
    """Signatures, lengths in characters, and how often letters stand in each of N texts."""

    signatures_PN: Signatures
    lengths_N: NDArray[np.int32]
    histograms_NB: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many texts."""
        return len(self.lengths_N)


#: What decides which texts are near-duplicates. Stored with every snapshot.
SCHEME = f"{shared_text.SCHEME} {minhash.SIGNATURE_SCHEME} window-16/2 {EDIT_SCHEME}"

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
        self._index = TextIndex(sign(texts), np.fromiter(map(len, texts), np.int32, len(texts)), histograms(texts))
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
        alike_C = alike_pairs(
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
        return np.asarray(np.abs(one_lengths - other_lengths) <= np.maximum(one_lengths, other_lengths) // SHARE)

    def _near_in_letters(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return self._in_pieces(one_C, other_C, lambda one_C, other_C: may_be_alike(*self._letters(one_C, other_C)))

    def _reorderable(self, one_C: Places, other_C: Places) -> NDArray[np.bool_]:
        return self._in_pieces(one_C, other_C, lambda one_C, other_C: may_be_reordered(*self._letters(one_C, other_C)))

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
