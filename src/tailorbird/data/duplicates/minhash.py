"""MinHash signatures and their bands (locality-sensitive hashing) for near-duplicate search.

A signature is 64 small numbers, of which two texts share about as many as their grams overlap. The grams of a text are the runs of three
characters inside its words, each word padded by a space, so that the order of words does not count. A signature holds the smallest of 64
hashes of them (Broder 1997), of each the low 16 bits (Li & König 2010); two texts meet in a bucket when they agree in all four places of
one of its bands (locality-sensitive hashing, Indyk & Motwani 1998). All constants are derived from SHA-256: the same texts meet whatever is
installed, and whichever texts surround them. Whoever changes one names a new ``SIGNATURE_SCHEME``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

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


#: An odd number, by which keys of few different bits differ in their upper ones.
_MIX = np.uint64(0x9E3779B97F4A7C15)
#: Places that are counted at once: no second array of so many is needed.
_PLACES_AT_ONCE = 1 << 20


def mixed(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Other keys, equal where these are, whose upper bits tell nearly all apart."""
    spread_N = keys_N * _MIX
    spread_N ^= spread_N >> np.uint64(32)
    return spread_N * _MIX


def key_order(keys_N: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """What sorts keys, equal ones as they stand, and the sorted keys. A seventh of numpy's time for a million whose upper bits tell most
    apart: words of these bits and of the place are sorted, for which processors have instructions, and only those that share these bits are
    sorted by all, where any of them is out of order."""
    size = len(keys_N)
    below = np.uint64((1 << max(size - 1, 0).bit_length()) - 1)
    packed_N = keys_N & ~below
    for start in range(0, size, _PLACES_AT_ONCE):
        part = packed_N[start : start + _PLACES_AT_ONCE]
        part |= np.arange(start, start + len(part), dtype=np.uint64)
    packed_N.sort()
    alike_N = (packed_N[1:] ^ packed_N[:-1]) <= below
    packed_N &= below
    order_N = packed_N.view(np.intp)
    sorted_N = keys_N[order_N]
    if (sorted_N[1:] < sorted_N[:-1]).any():
        shared = np.flatnonzero(np.append(alike_N, False) | np.insert(alike_N, 0, False))
        order_N[shared] = order_N[shared][np.argsort(sorted_N[shared], kind="stable")]
        sorted_N = keys_N[order_N]
    return order_N, sorted_N
