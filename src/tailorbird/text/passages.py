"""Passages: documents cut to a length that fits into a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tailorbird.domain.dataset import Document
from tailorbird.domain.retrieval import Entry

#: Words of a passage: long enough to answer, short enough that three of them leave room.
WORDS = 120
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def passages_of(document: Document) -> tuple[Entry, ...]:
    """The passages of ``document``, named ``id#0``, ``id#1``, …; a longer sentence is cut."""
    parts: list[list[str]] = []
    for words in _pieces(document.text):
        if parts and len(parts[-1]) + len(words) <= WORDS:
            parts[-1] += words
        else:
            parts.append(words)
    texts = [" ".join(part) for part in parts]
    return tuple(_entry(document, f"{document.id}#{place}", text) for place, text in enumerate(texts))


def _pieces(text: str) -> Iterator[list[str]]:
    """Sentences as words, none longer than a passage."""
    for sentence in _SENTENCE.split(text.strip()):
        words = sentence.split()
        yield from (words[start : start + WORDS] for start in range(0, len(words), WORDS))


def whole(document: Document) -> Entry:
    """A document as one entry, for ranking."""
    return _entry(document, document.id, document.text)


def _entry(document: Document, name: str, text: str) -> Entry:
    return Entry(id=name, title=document.title, text=text, access=document.access)
