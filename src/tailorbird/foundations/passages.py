"""Documents as passages short enough to be shown.

In: a document. Out: entries of about 120 words, cut at the ends of sentences, each under the document's access list. Must not know: who
asks.
"""

from __future__ import annotations

import re

from tailorbird.domain.dataset import Document
from tailorbird.domain.retrieval import Entry

#: Words of a passage: long enough to answer, short enough that three of them leave room.
WORDS = 120
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def passages_of(document: Document) -> tuple[Entry, ...]:
    """The passages of ``document``, named ``id#0``, ``id#1``, …; a sentence longer than a passage stands alone."""
    parts: list[list[str]] = []
    for sentence in _SENTENCE.split(document.text.strip()):
        words = sentence.split()
        if parts and len(parts[-1]) + len(words) <= WORDS:
            parts[-1] += words
        elif words:
            parts.append(words)
    texts = [" ".join(part) for part in parts]
    return tuple(_entry(document, f"{document.id}#{place}", text) for place, text in enumerate(texts))


def whole(document: Document) -> Entry:
    """A document as one entry, for ranking."""
    return _entry(document, document.id, document.text)


def _entry(document: Document, name: str, text: str) -> Entry:
    return Entry(id=name, title=document.title, text=text, access=document.access)
