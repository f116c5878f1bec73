"""Payment cards and bank accounts, and the checksums that identify numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tailorbird.data.privacy.context import is_reference
from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: cards, Swedish and Canadian numbers."""
    doubled = [int(digit) for digit in reversed(digits)]
    doubled[1::2] = [2 * digit - 9 if digit > 4 else 2 * digit for digit in doubled[1::2]]
    return sum(doubled) % 10 == 0


def mod97(account: str) -> bool:
    """ISO 13616 (IBAN): the first four characters moved behind, letters as 10 to 35, remainder 1."""
    moved = account[4:] + account[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def weighted(digits: str, weights: Sequence[int], modulus: int) -> int:
    """The sum of digits times weights, modulo ``modulus``."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False)) % modulus


def iso7064_mod11_10(digits: str) -> bool:
    """ISO 7064, MOD 11,10: German tax numbers."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = 2 * total % 11
    return (11 - product) % 10 == int(digits[-1])


def ean13(digits: str) -> bool:
    """The check digit of an EAN-13: Swiss insurance numbers."""
    return weighted(digits, [1, 3] * 7, 10) == 0


_VERHOEFF_TIMES = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_TURNED = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969: Indian Aadhaar numbers."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_TIMES[check][int(_VERHOEFF_TURNED[place % 8][int(digit)])])
    return check == 0


_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-]|\.\d)")

#: How the numbers of each scheme begin, and how many digits they have (ISO/IEC 7812 and the schemes' own rules).
_SCHEMES = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|09|[689]\d)\d{11}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|35\d{14}|(?:2131|1800)\d{11}|62\d{14,17}"
    r"|(?:5018|5020|5038|5[6-8]\d\d|6304|6390|67\d\d|060[0-9])\d{8,15}"
)

_IBAN = re.compile(r"(?<![\w-])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{1,4}){3,9}")

#: Characters of an IBAN by country (ISO 13616 register).
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FO FI GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def cards(text: str) -> Iterator[Span]:
    """Numbers of a card scheme's form whose check digit holds, unless a word before calls them an order or the like."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _SCHEMES.fullmatch(digits) and luhn(digits) and len(set(digits)) > 1 and not is_reference(text, match.start()):
            yield Span(match.start(), match.end(), PersonalKind.CARD)


def ibans(text: str) -> Iterator[Span]:
    """Account numbers of their country's length whose remainder is 1. What follows may look like more of it: it is cut off."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        end = _end_of(match[0], length) if length else 0
        if end and not text[match.start() + end : match.start() + end + 1].isalnum():
            account = re.sub(r"[ -]", "", match[0][:end]).upper()
            if mod97(account):
                yield Span(match.start(), match.start() + end, PersonalKind.IBAN)


def _end_of(found: str, length: int) -> int:
    """Where the ``length``-th letter or digit ends; 0 when there are fewer."""
    seen = 0
    for place, character in enumerate(found):
        seen += character.isalnum()
        if seen == length:
            return place + 1
    return 0
