"""Long runs of words that two texts share: what near-duplicate search cannot see, because one text is much longer.

In: normalised texts. Out: pairs of which one holds most of the other. Must not know: rows, splits.

A text is held by another when at least 7 in 10 of its runs of eight words stand there (Chowdhery et al. 2022, PaLM), or when they share a
run of thirteen words (Brown et al. 2020, GPT-3) that makes up half of the shorter one. Runs that stand in more than ten texts are phrases
of the trade, and tell nothing (Brown et al. 2020).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

#: The version of what follows.
SCHEME = "words-8-13/1"

SHORT_RUN, LONG_RUN = 8, 13
#: A run in more texts than this is a phrase.
PHRASE = 10
#: Tenths of a text's short runs that another must hold.
_TENTHS = 7

_WORD = re.compile(r"\w+")
_BLOCK = 8192
_MIX = np.uint64(0x9E3779B97F4A7C15)


def overlapping(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (smaller index first, sorted) of texts of which one is held by the other. Texts of fewer than eight words hold nothing."""
    runs_R, holders_R = _runs(texts)
    counts_N = np.bincount(holders_R, minlength=len(texts))
    low_P, high_P, shared_P = _sharing(runs_R, holders_R, len(texts))
    held_P = 10 * shared_P >= _TENTHS * np.minimum(counts_N[low_P], counts_N[high_P])
    for place in np.flatnonzero(~held_P & (shared_P > LONG_RUN - SHORT_RUN)):
        held_P[place] = _share_half(texts[low_P[place]], texts[high_P[place]])
    return list(zip(low_P[held_P].tolist(), high_P[held_P].tolist(), strict=True))


def _sharing(runs_R: NDArray[np.uint64], holders_R: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], ...]:
    """Pairs of texts that share runs which are no phrases, sorted, and how many each pair shares."""
    order_R = np.argsort(runs_R, kind="stable")
    runs_R, holders_R = runs_R[order_R], holders_R[order_R]
    begins_R = np.concatenate([[True], runs_R[1:] != runs_R[:-1]]) if len(runs_R) else np.zeros(0, dtype=bool)
    group_R = np.cumsum(begins_R) - 1
    telling_R = np.bincount(group_R)[group_R] <= PHRASE if len(runs_R) else begins_R
    runs_R, holders_R = runs_R[telling_R], holders_R[telling_R]
    met = [np.zeros(0, dtype=np.int64)]
    for step in range(1, min(PHRASE, len(runs_R))):
        same = runs_R[step:] == runs_R[:-step]
        one, other = holders_R[:-step][same], holders_R[step:][same]
        met.append(np.minimum(one, other) * size + np.maximum(one, other))
    pairs_P, shared_P = np.unique(np.concatenate(met), return_counts=True)
    return pairs_P // max(1, size), pairs_P % max(1, size), shared_P


def _share_half(one: str, other: str) -> bool:
    """True when a run of thirteen or more words stands in both and makes up half of the shorter text."""
    words, others = _WORD.findall(one), _WORD.findall(other)
    shortest = min(len(words), len(others))
    length = max(LONG_RUN, (shortest + 1) // 2)
    if shortest < length:
        return False
    mine = {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
    return any(tuple(others[start : start + length]) in mine for start in range(len(others) - length + 1))


def _runs(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct runs of eight words of each text, hashed, and the text that holds each."""
    known: dict[str, int] = {}
    parts = [_runs_of(texts[start : start + _BLOCK], start, known) for start in range(0, len(texts), _BLOCK)]
    if not parts:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    return np.concatenate([runs for runs, _ in parts]), np.concatenate([holders for _, holders in parts])


def _runs_of(texts: Sequence[str], start: int, known: dict[str, int]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    found = [_WORD.findall(text) for text in texts]
    words_W = np.fromiter((_hashed(word, known) for word in chain.from_iterable(found)), dtype=np.uint64)
    holder_W = np.repeat(np.arange(len(texts), dtype=np.int64), [len(words) for words in found])
    if len(words_W) < SHORT_RUN:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    size = len(words_W) - SHORT_RUN + 1
    runs_W = np.zeros(size, dtype=np.uint64)
    for step in range(SHORT_RUN):
        runs_W = (runs_W ^ words_W[step : step + size]) * _MIX
        runs_W ^= runs_W >> np.uint64(29)
    inside_W = holder_W[:size] == holder_W[SHORT_RUN - 1 :]
    pairs = np.unique(np.stack([holder_W[:size][inside_W].astype(np.uint64), runs_W[inside_W]]), axis=1)
    return pairs[1], pairs[0].astype(np.int64) + start


def _hashed(word: str, known: dict[str, int]) -> int:
    """A number for a word, the same for ever."""
    number = known.get(word)
    if number is None:
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        known[word] = number
    return number
