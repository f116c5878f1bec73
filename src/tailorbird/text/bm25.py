"""Okapi BM25: how well documents answer a question by the words they share.

score = Σ idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)), idf = ln(1 + (n - df + 1/2) / (df + 1/2)) (Robertson & Zaragoza
2009, with the idf of Lucene, which is never negative). Words are cut to letters and digits, without case; plurals are taken
back by three rules (the S stemmer, Harman 1991).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+")


class Bm25:
    """An index of ``texts``."""

    def __init__(self, texts: Sequence[str]) -> None:
        counted = [Counter(words(text)) for text in texts]
        lengths = np.array([sum(counts.values()) for counts in counted], dtype=np.float64)
        self._count = len(texts)
        norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, counts in enumerate(counted):
            for word, times in counts.items():
                found[word].append((place, times))
        self._postings = {word: self._weighed(postings, norm) for word, postings in found.items()}

    def _weighed(self, postings: list[tuple[int, int]], norm: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        places = np.array([place for place, _ in postings])
        times = np.array([count for _, count in postings], dtype=np.float64)
        rarity = math.log(1 + (self._count - len(postings) + 0.5) / (len(postings) + 0.5))
        return places, rarity * times * (K1 + 1) / (times + norm[places])

    def scores(self, question: str) -> NDArray[np.float64]:
        """A score for each text, 0 where no word is shared. A word that the question repeats counts as often."""
        total = np.zeros(self._count)
        for word, times in Counter(words(question)).items():
            if word in self._postings:
                places, weights = self._postings[word]
                total[places] += times * weights
        return total


def words(text: str) -> list[str]:
    """The words of a text, without case and plural."""
    return [_singular(word) for word in _WORD.findall(text.casefold())]


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
