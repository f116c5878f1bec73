"""spaCy behind the port ``Detector``.

In: texts. Out: spans of people, places and organisations. Must not know: policies, rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tailorbird.domain.curation import PersonalKind
from tailorbird.integrations.spacy.pipeline import load_names
from tailorbird.ports.detector import Detector, Span

#: What the model calls the kinds that are asked for; the other kinds (dates, amounts, works of art) are no names of somebody.
_KINDS = {
    "PERSON": PersonalKind.PERSON,
    "GPE": PersonalKind.PLACE,
    "LOC": PersonalKind.PLACE,
    "FAC": PersonalKind.PLACE,
    "ORG": PersonalKind.ORGANISATION,
}
#: Characters that the model reads at once: its memory grows with the text, and it refuses more than a million.
LONGEST = 100_000


def open_detector() -> Detector:
    """The detector ``spacy``. Raises Unavailable when its model is not installed."""
    return SpacyNames(*load_names())


class SpacyNames:
    """Implements ``Detector``."""

    name = "spacy"

    def __init__(self, pipeline: Any, version: str) -> None:
        self._pipeline = pipeline
        self.version = version

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of place."""
        cut = [(place, start, piece) for place, text in enumerate(texts) for start, piece in pieces(text)]
        found: list[list[Span]] = [[] for _ in texts]
        for (place, start, _), read in zip(cut, self._pipeline.pipe(piece for _, _, piece in cut), strict=True):
            for entity in read.ents:
                if kind := _KINDS.get(entity.label_):
                    found[place].append(Span(start + entity.start_char, start + entity.end_char, kind))
        return found


def pieces(text: str) -> Iterator[tuple[int, str]]:
    """``text`` in parts of at most ``LONGEST`` characters, each with where it starts, cut at white space where there is some."""
    start = 0
    while len(text) - start > LONGEST:
        end = max(text.rfind(mark, start, start + LONGEST) for mark in " \n") + 1
        end = end if end > start else start + LONGEST
        yield start, text[start:end]
        start = end
    yield start, text[start:]
