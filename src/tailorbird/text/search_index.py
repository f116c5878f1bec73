"""Search index over entries by words (Okapi BM25), by vectors, or by both fused.

BM25: score = Σ idf · tf (k1 + 1) / (tf + k1 (1 - b + b · length / mean length)), idf = ln(1 + (n - df + 1/2) / (df + 1/2)) (Robertson &
Zaragoza 2009, with the idf of Lucene, which is never negative). Words are cut to letters and digits, without case; plurals are taken back
by three rules (the S stemmer, Harman 1991); of scripts without spaces each two neighbouring characters are a word. Words and vectors are
fused by reciprocal rank, 1 / (60 + rank) summed (Cormack, Clarke & Büttcher 2009): their scores have no common scale. What shares no word
with the question has no rank by words.

    entries.jsonl   one Entry a line
    vectors.npy     (entries, width) in fp16, where they are found by vectors
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import EVERYONE, Document
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Entry, RetrievedEntry
from tailorbird.text.words import UNSPACED, paired_tokens

K1, B = 1.2, 0.75


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
    """The words of a text, without case, plural and forms of Unicode."""
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return [_singular(word) for word in paired_tokens(folded.replace("_", " "))]


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word


_RANK_CONSTANT = 60
_ENTRIES, _VECTORS = "entries.jsonl", "vectors.npy"

Scores = NDArray[np.float64]


def write_index(folder: Path, entries: Sequence[Entry], vectors: NDArray[np.float32] | None) -> None:
    """Writes an index into ``folder``; the same entries and vectors give the same bytes."""
    (folder / _ENTRIES).write_text("".join(entry.model_dump_json() + "\n" for entry in entries), encoding="utf-8")
    if vectors is not None:
        np.save(folder / _VECTORS, vectors.astype(np.float16), allow_pickle=False)


class SearchIndex:
    """The index in ``folder``; with ``of`` one of entries that somebody holds. Raises ModelInvalid when it cannot be read."""

    entries: tuple[Entry, ...]
    vectors: NDArray[np.float32] | None

    @classmethod
    def of(cls, entries: Sequence[Entry], vectors: NDArray[np.float32] | None) -> SearchIndex:
        """An index in memory alone; ``vectors`` one an entry, where they are found by vectors."""
        made = cls.__new__(cls)
        made.entries, made.vectors = tuple(entries), vectors
        return made

    def __init__(self, folder: Path) -> None:
        try:
            # Of bytes: texts may hold what ends lines of text elsewhere (U+2028, U+0085).
            lines = (folder / _ENTRIES).read_bytes().splitlines()
            self.entries = tuple(Entry.model_validate_json(line) for line in lines)
            path = folder / _VECTORS
            self.vectors = np.load(path, allow_pickle=False).astype(np.float32) if path.is_file() else None
        except (OSError, ValueError) as error:
            raise ModelInvalid(
                f"the index in {folder.name} cannot be read ({type(error).__name__})",
                "adapt again: it is made anew",
            ) from error

    @cached_property
    def nbytes(self) -> int:
        """About how much memory it takes: its vectors, and three times the letters of its entries, for they are indexed by word too."""
        letters = sum(len(entry.title) + len(entry.text) + len(entry.target) for entry in self.entries)
        return 3 * letters + (self.vectors.nbytes if self.vectors is not None else 0)

    @cached_property
    def _words(self) -> Bm25:
        return Bm25([f"{entry.title} {entry.text}" for entry in self.entries])

    def find(self, question: str, vectors: Sequence[NDArray[np.float32]], groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """At most ``count`` entries that somebody in ``groups`` may read: by the words of ``question`` unless it is empty, and by each of
        its ``vectors``; what several ways find is fused. Raises ModelInvalid for vectors of another model."""
        readable = np.array(
            [place for place, entry in enumerate(self.entries) if (EVERYONE in entry.access or not groups.isdisjoint(entry.access))],
            dtype=np.int64,
        )
        ways = [scores[readable] for scores in self._scored(question, vectors)]
        if not len(readable) or not ways:
            return []
        scores = ways[0] if len(ways) == 1 else _fused(ways, by_words=bool(question))
        best = np.argsort(-scores, kind="stable")[:count]
        return [RetrievedEntry(entry=self.entries[readable[place]], score=float(scores[place])) for place in best]

    def _scored(self, question: str, vectors: Sequence[NDArray[np.float32]]) -> list[Scores]:
        by_words = [self._words.scores(question)] if question else []
        by_vectors = [self._products(self.vectors, vector) for vector in vectors] if self.vectors is not None else []
        return by_words + by_vectors

    @staticmethod
    def _products(held: NDArray[np.float32], asked: NDArray[np.float32]) -> Scores:
        if asked.shape != held.shape[1:]:
            raise ModelInvalid(
                f"the index holds vectors of {held.shape[1]} numbers, and the encoder makes vectors of {asked.shape[0]}",
                "adapt again: index and encoder are of two models",
            )
        return (held @ asked).astype(np.float64)


def _fused(ways: Sequence[Scores], *, by_words: bool) -> Scores:
    """Reciprocal ranks, summed. ``by_words``: the first way is that of words, where an entry that shares none has no rank. Such entries are
    all alike, and ranked as they lie in the index the first of them would come before what the vectors find."""
    ranks = [_reciprocal_ranks(way) for way in ways]
    if by_words:
        ranks[0] = np.where(ways[0] > 0, ranks[0], 0.0)
    fused: Scores = np.sum(ranks, axis=0)
    return fused


def _reciprocal_ranks(scores: Scores) -> Scores:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return 1 / (_RANK_CONSTANT + ranks)


#: Words of a passage: long enough to answer, short enough that three of them leave room.
WORDS = 120
#: Characters of a script without spaces that count as a word, and of a run without spaces in any script.
_UNSPACED_WORD, _LONG_WORD = 2, 200
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?=\S)|\Z")
_CHARACTER = re.compile(f"[{UNSPACED}]")


class _Piece(NamedTuple):
    """Words that stay together, how many they count for, and what stood before them: a space, or nothing."""

    text: str
    size: float
    behind: str = " "


def passages_of(document: Document) -> tuple[Entry, ...]:
    """The passages of ``document``, named ``id#0``, ``id#1``, …; a longer sentence is cut."""
    parts: list[_Piece] = []
    for piece in _pieces(document.text.strip()):
        if parts and parts[-1].size + piece.size <= WORDS:
            parts[-1] = _Piece(parts[-1].text + piece.behind + piece.text, parts[-1].size + piece.size)
        else:
            parts.append(piece)
    return tuple(_entry(document, f"{document.id}#{place}", part.text) for place, part in enumerate(parts))


def _pieces(text: str) -> Iterator[_Piece]:
    """Sentences, none longer than a passage."""
    begins, behind = 0, " "
    for end in _SENTENCE.finditer(text):
        words, size = list[str](), 0.0
        for word, counts in _words(text[begins : end.start()]):
            if words and size + counts > WORDS:
                yield _Piece(" ".join(words), size, behind)
                words, size, behind = [], 0.0, " "
            words.append(word)
            size += counts
        if words:
            yield _Piece(" ".join(words), size, behind)
        begins, behind = end.end(), " " if end.end() > end.start() else ""


def _words(sentence: str) -> Iterator[tuple[str, float]]:
    """Words, with what each counts for; one that counts for more than a passage has is cut."""
    for word in sentence.split():
        counts = max(1.0, len(_CHARACTER.findall(word)) / _UNSPACED_WORD, len(word) / _LONG_WORD)
        if counts <= WORDS:
            yield word, counts
            continue
        length = int(len(word) * WORDS / counts)
        yield from ((word[start : start + length], float(WORDS)) for start in range(0, len(word), length))


def whole(document: Document) -> Entry:
    """A document as one entry, for ranking."""
    return _entry(document, document.id, document.text)


def _entry(document: Document, name: str, text: str) -> Entry:
    return Entry(id=name, title=document.title, text=text, access=document.access)
