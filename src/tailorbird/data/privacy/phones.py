"""Telephone numbers, by the numbering plans of the world (``phonenumbers``).

In: a text, and the countries whose numbers are known without a country code. Out: spans. Must not know: policies.

Parsing is slow, so only what has the form of a number is parsed; and a number that is valid somewhere but stands after the word
"order" is none. Digits without any separator are taken when a word beside them speaks of calling, or when they begin like a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from tailorbird.data.privacy.context import before, is_reference
from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

_FORM = re.compile(r"(?<![\w@.,/-])(?:\+|00)?\(?\d(?:[ \t().\-/]{0,3}\d){6,16}(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w@]|[.,]\d)")
_CALLING = re.compile(
    r"(?i)\b(?:phone|telephone|tel|mobile|cell|cellphone|call(?:ed|ing|s)?|ring|fax|whatsapp|sms|text(?:ed)? me|dial"
    r"|reach(?: me)?|hotline|contact|number is|my number"
    r"|telefon|telefono|teléfono|téléphone|handy|mobil|móvil|portable|rufen|appele[rz]?|llam\w+|chiam\w+|bel|nummer|numer"
    r"|numero|número|komórk\w+|ring(?:a)?)\b"
)
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:[ T]\d.*)?|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d")
_MONEY = re.compile(r"[€$£¥]\s?$|\b(?:EUR|USD|GBP|CHF)\s?$")


def phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Numbers that are valid in the world's plan (with +) or in one of ``regions``."""
    for match in _FORM.finditer(text):
        found = match[0].rstrip()
        if _speaks_against(text, match.start(), found):
            continue
        international = found.startswith(("+", "00"))
        called = _CALLING.search(before(text, match.start())) is not None
        if not international and not called and not _written_like_one(found):
            continue
        if any(_valid(found, region) for region in (("ZZ", *regions) if found.startswith("+") else regions)):
            yield Span(match.start(), match.start() + len(found), PersonalKind.PHONE)


def _speaks_against(text: str, start: int, found: str) -> bool:
    return is_reference(text, start) or _DATE.fullmatch(found) is not None or _MONEY.search(before(text, start, 5)) is not None


def _written_like_one(found: str) -> bool:
    """Groups, and a first digit or bracket as national numbers have them; plain digits only after a trunk 0."""
    groups = re.findall(r"\d+", found)
    return (len(groups) > 2 or "(" in found or (len(groups) == 2 and found.startswith("0"))) or (len(groups) == 1 and found.startswith("0"))


@lru_cache(maxsize=50_000)
def _valid(number: str, region: str) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None if region == "ZZ" else region)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(parsed)
