"""Dates of birth: dates that a word before them says somebody was born on.

In: a text. Out: spans. Must not know: policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

_MONTHS = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|janv|févr|avr"
    r"|juin|juil|août|déc)[^\W\d_]*\.?"
)
_BORN = re.compile(
    r"(?i)\b(?:born|birth ?date|birth ?day|date of birth|d\.?o\.?b\.?|geboren|geburtsdatum|geb\.|née?|naissance|nacid[oa]"
    r"|nacimiento|nat[oa] il|nascita|geboortedatum|ur\.|urodzon[ya]|född)"
    r"[^\d\n]{0,24}?(\d{1,4}(?P<mark>[./-])\d{1,2}(?P=mark)\d{2,4}|\d{1,2}(?:st|nd|rd|th|\.)? (?:de "
    r"|of )?" + _MONTHS + r"(?: de)?,? \d{4}"
    r"|" + _MONTHS + r" \d{1,2}(?:st|nd|rd|th)?,? \d{4})"
)


def birth_dates(text: str) -> Iterator[Span]:
    """Dates right after words like "born on"."""
    for match in _BORN.finditer(text):
        yield Span(match.start(1), match.end(1), PersonalKind.BIRTH_DATE)
