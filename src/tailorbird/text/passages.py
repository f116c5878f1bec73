"""Passages: documents cut to a length that fits into a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tailorbird.domain.dataset import Document
from tailorbird.domain.retrieval import Entry
from tailorbird.text.word_tokens import UNSPACED

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
