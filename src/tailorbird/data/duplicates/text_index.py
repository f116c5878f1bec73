"""Index of texts for near-duplicate search: MinHash signatures, character histograms, and the exact edit similarity that decides.

Two texts are alike when at most a seventh of the longer one's characters must be edited; or, the order of words aside, a tenth. The edits
are counted exactly (Levenshtein 1966, by rapidfuzz), in whole numbers: no rounding and no version of a library decides.

A signature is 64 small numbers, of which two texts share about as many as their grams overlap. The grams of a text are the runs of three
characters inside its words, each word padded by a space, so that the order of words does not count. A signature holds the smallest of 64
hashes of them (Broder 1997), of each the low 16 bits (Li & König 2010); two texts meet in a bucket when they agree in all four places of
one of its bands (locality-sensitive hashing, Indyk & Motwani 1998). All constants are derived from SHA-256: the same texts meet whatever is
installed, and whichever texts surround them. Whoever changes one names a new ``SIGNATURE_SCHEME``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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
#: Bins into which characters are counted.
_BINS = 32


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
    counted_NB = np.empty((len(texts), _BINS), dtype=np.uint8)
    for start in range(0, len(texts), 8192):
        block = texts[start : start + 8192]
        lengths_N = np.fromiter(map(len, block), np.intp, len(block))
        points_C = np.frombuffer("".join(block).encode("utf-32-le", "surrogatepass"), dtype="<u4") % _BINS
        places_C = np.repeat(np.arange(len(block)) * _BINS, lengths_N) + points_C
        counts_NB = np.bincount(places_C, minlength=len(block) * _BINS).reshape(-1, _BINS)
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
    apart_NB = np.maximum(ones_NB, others_NB) - np.minimum(ones_NB, others_NB)
    return np.asarray(apart_NB.sum(axis=1, dtype=np.int32))


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


#: The version of everything below that decides which texts meet.
SIGNATURE_SCHEME = "minhash-3gram-16bit-64x(64,4)/2"

#: Places in a signature; bands; places in a band.
PLACES, BANDS, DEPTH = 64, 64, 4

Signatures = NDArray[np.uint16]

#: Texts that are signed at once: their grams stay in the processor's cache.
_BLOCK = 4096
_THREADS = 2


def _drawn(what: str, count: int) -> list[int]:
    """``count`` numbers of 64 bits, the same for ever."""
    blocks = [hashlib.sha256(f"tailorbird/near/1/{what}/{number}".encode()).digest() for number in range(count)]
    return [int.from_bytes(block[:8]) for block in blocks]


_FACTORS = np.array([number | 1 for number in _drawn("factor", PLACES)], dtype=np.uint64).astype(np.uint32)
_MASKS = np.array(_drawn("mask", PLACES), dtype=np.uint64).astype(np.uint32)
#: Which places make up each band: four different ones.
_BAND_PLACES = [sorted(range(PLACES), key=_drawn(f"band/{band}", PLACES).__getitem__)[:DEPTH] for band in range(BANDS)]


def sign(texts: Sequence[str]) -> Signatures:
    """The signatures of normalised texts, uint16[64, N]. Every text needs a character that is no space."""
    signatures_PN = np.empty((PLACES, len(texts)), dtype=np.uint16)

    def fill(start: int) -> None:
        signatures_PN[:, start : start + _BLOCK] = _signed(texts[start : start + _BLOCK])

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, range(0, len(texts), _BLOCK)))
    return signatures_PN


def band(signatures_PN: Signatures, number: int) -> NDArray[np.uint64]:
    """The bucket of every text in one band: the band's four places side by side."""
    keys_ND = np.empty((signatures_PN.shape[1], DEPTH), dtype=np.uint16)
    for column, place in enumerate(_BAND_PLACES[number]):
        keys_ND[:, column] = signatures_PN[place]
    return keys_ND.view(np.uint64)[:, 0]


def _signed(texts: Sequence[str]) -> Signatures:
    grams_G, starts_N = _grams(texts)
    signed_PN = np.empty((PLACES, len(texts)), dtype=np.uint16)
    for place in range(PLACES):
        hashed_G = (grams_G ^ _MASKS[place]) * _FACTORS[place]
        hashed_G ^= hashed_G >> np.uint32(15)
        signed_PN[place] = np.minimum.reduceat(hashed_G * _FACTORS[PLACES - 1 - place], starts_N).astype(np.uint16)
    return signed_PN


def _grams(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """The hashed grams of all texts, one after the other, and where those of each text begin."""
    points_C = np.frombuffer(("  ".join(["", *texts, ""])).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    inside_C = points_C[1:-1] != ord(" ")
    first, middle, last = points_C[:-2][inside_C], points_C[1:-1][inside_C], points_C[2:][inside_C]
    grams_G = (first * np.uint32(0x85EBCA6B)) ^ (middle * np.uint32(0xC2B2AE35)) ^ (last * np.uint32(0x27D4EB2F))
    grams_G ^= grams_G >> np.uint32(16)
    lengths_N = np.fromiter((len(text) for text in texts), dtype=np.intp, count=len(texts))
    ends_N = np.cumsum(lengths_N + 2)
    begun_C = np.concatenate([[0], np.cumsum(inside_C)])
    return grams_G * np.uint32(0x2C1B3C6D), begun_C[ends_N - lengths_N - 1]


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

    def joined(self, later: TextIndex) -> TextIndex:
        """The index of these texts and of later ones."""
        return TextIndex(
            np.concatenate([self.signatures_PN, later.signatures_PN], axis=1),
            np.concatenate([self.lengths_N, later.lengths_N]),
            np.concatenate([self.histograms_NB, later.histograms_NB]),
        )


def index_texts(texts: Sequence[str]) -> TextIndex:
    """The index of ``texts``, each with a character that is no space."""
    return TextIndex(sign(texts), np.fromiter(map(len, texts), np.int32, len(texts)), histograms(texts))
