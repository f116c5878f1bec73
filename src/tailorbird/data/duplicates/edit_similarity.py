"""Edit similarity, which decides what a near-duplicate is.

Two texts are alike when at most a seventh of the longer one's characters must be edited; or, the order of words aside, a tenth. The edits
are counted exactly (Levenshtein 1966, by rapidfuzz), in whole numbers: no rounding and no version of a library decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist

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
    left, right = _unshared(one.split(), other.split())
    if Levenshtein.distance(" ".join(left), " ".join(right), score_cutoff=allowed) <= allowed:
        return True
    return bool(Levenshtein.distance(" ".join(sorted(left)), " ".join(sorted(right)), score_cutoff=allowed) <= allowed)


def _unshared(words: list[str], others: list[str]) -> tuple[list[str], list[str]]:
    """Both without the words that both have, each as often as both have it."""
    if min(len(words), len(others)) > _FEW_WORDS:
        return _unshared_of_many(words, others)
    left, right = list[str](), others.copy()
    for word in words:
        if word in right:
            right.remove(word)
        else:
            left.append(word)
    return left, right


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
