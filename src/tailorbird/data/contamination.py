"""Contamination: long runs of words that two texts share, missed by near-duplicate search where one text is much longer.

A text is contained in another when at least 7 in 10 of its runs of eight words occur there (Chowdhery et al. 2022, PaLM), or when both
share a run of thirteen words (Brown et al. 2020, GPT-3) that makes up half of the shorter one. Runs that occur in more than ten texts are
phrases and tell nothing (Brown et al. 2020).

Where no space stands between words, two Chinese characters count as one, and four of kana, Thai, Lao, Burmese or Khmer: a run has as many
characters as make eight words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.minhash import key_order
from tailorbird.text.words import WORD_WEIGHT, holds_unspaced, word_tokens, word_weight

#: The version of what follows.
SCHEME = "words-8-13/2"

SHORT_RUN, LONG_RUN = 8, 13
#: A run in more texts than this is a phrase.
PHRASE = 10
#: Base and modulus of a rolling hash.
_BASE, _PRIME = 0x9E3779B97F4A7C15, 2**127 - 1
#: Tenths of a text's short runs that another must hold.
_TENTHS = 7

_BLOCK = 8192
_MIX = np.uint64(0x9E3779B97F4A7C15)


def overlapping(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (smaller index first, sorted) of texts of which one is held by the other. Texts of fewer than eight words hold nothing."""
    runs_R, holders_R = _runs(texts)
    counts_N = np.bincount(holders_R, minlength=len(texts)).astype(np.int32)
    order_R, runs_R = key_order(runs_R)
    low_P, high_P, shared_P = _sharing(runs_R, holders_R[order_R], len(texts))
    held_P = 10 * shared_P >= _TENTHS * np.minimum(counts_N[low_P], counts_N[high_P])
    for place in np.flatnonzero(~held_P & (shared_P > LONG_RUN - SHORT_RUN)):
        held_P[place] = _share_half(texts[low_P[place]], texts[high_P[place]])
    return list(zip(low_P[held_P].tolist(), high_P[held_P].tolist(), strict=True))


def _sharing(runs_R: NDArray[np.uint64], holders_R: NDArray[np.int32], size: int) -> tuple[NDArray[np.int64], ...]:
    """Pairs of texts that share runs (sorted) which are no phrases, sorted, and how many each pair shares."""
    again_R = runs_R[1:] == runs_R[:-1]
    met_R = np.append(again_R, False) | np.insert(again_R, 0, False) if len(runs_R) else np.zeros(0, dtype=bool)
    runs_R, holders_R = runs_R[met_R], holders_R[met_R]  # nearly all runs stand in one text
    begins_R = np.concatenate([[True], runs_R[1:] != runs_R[:-1]]) if len(runs_R) else np.zeros(0, dtype=bool)
    group_R = np.cumsum(begins_R) - 1
    telling_R = np.bincount(group_R)[group_R] <= PHRASE if len(runs_R) else begins_R
    runs_R, holders_R = runs_R[telling_R], holders_R[telling_R]
    met = [np.zeros(0, dtype=np.int64)]
    for step in range(1, min(PHRASE, len(runs_R))):
        same = runs_R[step:] == runs_R[:-step]
        one, other = holders_R[:-step][same].astype(np.int64), holders_R[step:][same].astype(np.int64)
        met.append(np.minimum(one, other) * size + np.maximum(one, other))
    pairs_P, shared_P = np.unique(np.concatenate(met), return_counts=True)
    return pairs_P // max(1, size), pairs_P % max(1, size), shared_P


def _share_half(one: str, other: str) -> bool:
    """True when a run of thirteen or more words stands in both and makes up half of the shorter text."""
    words, others = sorted((word_tokens(one), word_tokens(other)), key=len)
    shortest = min(sum(map(word_weight, words)), sum(map(word_weight, others)))
    needed = max(LONG_RUN * WORD_WEIGHT, WORD_WEIGHT * -(-shortest // (2 * WORD_WEIGHT)))
    known: dict[str, int] = {}
    return not set(_reaching(words, needed, known)).isdisjoint(_reaching(others, needed, known))


def _reaching(words: Sequence[str], needed: int, known: dict[str, int]) -> Iterator[tuple[int, int]]:
    """The shortest runs that count for ``needed`` quarters, one a place, but for those too near to the end: length, and a hash that rolls
    along, so that what is held grows with the text and not with its square."""
    end = weight = rolled = 0
    factors = list(accumulate(range(len(words)), lambda power, _: power * _BASE % _PRIME, initial=1))
    for start, first in enumerate(words):
        while end < len(words) and weight < needed:
            rolled = (rolled * _BASE + _hashed(words[end], known)) % _PRIME
            weight += word_weight(words[end])
            end += 1
        if weight < needed:
            return
        yield end - start, rolled
        rolled = (rolled - _hashed(first, known) * factors[end - start - 1]) % _PRIME
        weight -= word_weight(first)


def _runs(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The distinct runs of eight words of each text, hashed, and the text that holds each."""
    known: dict[str, int] = {}
    parts = [_runs_of(texts[start : start + _BLOCK], start, known) for start in range(0, len(texts), _BLOCK)]
    if not parts:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int32)
    return np.concatenate([runs for runs, _ in parts]), np.concatenate([holders for _, holders in parts])


def _runs_of(texts: Sequence[str], start: int, known: dict[str, int]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    found = [word_tokens(text) for text in texts]
    words_W = np.fromiter((_hashed(word, known) for word in chain.from_iterable(found)), dtype=np.uint64)
    holder_W = np.repeat(np.arange(start, start + len(texts), dtype=np.int32), [len(words) for words in found])
    if len(words_W) < SHORT_RUN:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int32)
    size = len(words_W) - SHORT_RUN + 1
    runs_W = np.zeros(size, dtype=np.uint64)
    for step in range(SHORT_RUN):
        runs_W = _mixed(runs_W, words_W[step : step + size])
    inside_W = holder_W[:size] == holder_W[SHORT_RUN - 1 :]
    if any(map(holds_unspaced, texts)):
        inside_W &= _lengthened(runs_W, words_W, holder_W, np.fromiter(map(word_weight, chain.from_iterable(found)), dtype=np.int64))
    runs_W, holder_W = runs_W[inside_W], holder_W[:size][inside_W]
    order_W = np.lexsort((runs_W, holder_W))
    runs_W, holder_W = runs_W[order_W], holder_W[order_W]
    new_W = np.ones(len(runs_W), dtype=bool)
    new_W[1:] = (runs_W[1:] != runs_W[:-1]) | (holder_W[1:] != holder_W[:-1])
    return runs_W[new_W], holder_W[new_W]


def _mixed(runs_W: NDArray[np.uint64], words_W: NDArray[np.uint64]) -> NDArray[np.uint64]:
    runs_W = (runs_W ^ words_W) * _MIX
    return runs_W ^ runs_W >> np.uint64(29)


def _lengthened(
    runs_W: NDArray[np.uint64], words_W: NDArray[np.uint64], holder_W: NDArray[np.int32], weights_W: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Takes further tokens into the hashes of runs that count for less than eight words (in place). Which of them end in the text that they
    begin in."""
    sums = np.concatenate([[0], np.cumsum(weights_W)])
    starts = np.arange(len(runs_W))
    ends_W = np.searchsorted(sums, sums[starts] + SHORT_RUN * WORD_WEIGHT)
    short = np.flatnonzero(ends_W > starts + SHORT_RUN)
    step = SHORT_RUN
    while len(short := short[(ends_W[short] > short + step) & (short + step < len(words_W))]):
        runs_W[short] = _mixed(runs_W[short], words_W[short + step])
        step += 1
    whole: NDArray[np.bool_] = ends_W <= len(words_W)
    whole[whole] = holder_W[starts[whole]] == holder_W[ends_W[whole] - 1]
    return whole


def _hashed(word: str, known: dict[str, int]) -> int:
    """A number for a word, the same for ever."""
    number = known.get(word)
    if number is None:
        number = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        known[word] = number
    return number
