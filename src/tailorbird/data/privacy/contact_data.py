"""Contact data: e-mail and network addresses, URLs with passwords, telephone numbers, dates of birth."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from tailorbird.data.privacy.checked_numbers import before, is_reference
from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

_EMAIL = re.compile(r"(?<![\w.%+-])[\w%+'-][\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])")
#: An address that hides from harvesters, whose words say what it is.
_HIDDEN = re.compile(r"(?i)(?<![\w.])[\w.+-]{1,64}\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)[\w-]+){1,4}")
_CREDENTIALS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,80}:[^\s/@]{1,200}@[^\s\"'<>]+")
_FOUR = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
_SIX = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:])")
_VERSION = re.compile(r"(?i)\b(?:v|ver|version|release|firmware|build|update|section|chapter|clause|kapitel|abschnitt)[\s.:]*$")
#: What ends like a name of a domain and is a file.
_FILES = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "htm", "pdf", "txt", "py", "md"])


def emails(text: str) -> Iterator[Span]:
    """Addresses with a top-level domain."""
    for match in _EMAIL.finditer(text):
        if match[0].rpartition(".")[2].lower() not in _FILES:
            yield Span(match.start(), match.end(), PersonalKind.EMAIL)
    for match in _HIDDEN.finditer(text):
        yield Span(match.start(), match.end(), PersonalKind.EMAIL)


def credentials(text: str) -> Iterator[Span]:
    """URLs with a name and a password."""
    for match in _CREDENTIALS.finditer(text):
        yield Span(match.start(), match.end(), PersonalKind.URL_CREDENTIALS)


def internet_addresses(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses; four numbers after the word "version" are none."""
    for match in _FOUR.finditer(text):
        if _parses(match[0]) and not _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
            yield Span(match.start(), match.end(), PersonalKind.IP)
    for match in _SIX.finditer(text):
        if match[0].count(":") > 1 and len(match[0]) > 4 and _parses(match[0]):
            yield Span(match.start(), match.end(), PersonalKind.IP)


def _parses(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


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
    """Numbers that are valid in the world's plan (with +) or in one of ``regions``.

    Parsing is slow, so only what has the form of a number is parsed; and a number that is valid somewhere but stands after the word
    "order" is none. Digits without any separator are taken when a word beside them speaks of calling, or when they begin like a number.
    """
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
