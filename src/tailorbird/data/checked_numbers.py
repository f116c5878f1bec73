"""Numbers that are told by a check: national identification numbers, cards and accounts.

A number whose form and check leave little to chance is taken wherever it stands; one that any nine to eleven digits might be needs a word
beside it, or the separators that it is written with. Each rule names its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

#: Characters before a number in which its name is looked for.
BEFORE = 32

#: Numbers that firms give: what follows such a word is no person's.
REFERENCE = re.compile(
    r"(?i)\b(?:order|orders|invoice|tracking|track|shipment|parcel|ticket|case|ref|reference|serial|sku|isbn|ean|barcode|part"
    r"|item|product"
    r"|model|batch|lot|booking|confirmation|transaction|version|build|commit|bestellung|rechnung|commande|facture|pedido|ordine)"
    r"(?:\s*(?:number|nummer|num|id|code|no|nr|n°|#|was|is))*[\s.:#°=]*$"
)


#: What an account number begins with: its later groups are no number of their own, whether or not the account exists.
#: A group keeps the letters that it took: eight groups can be cut out of a run of letters in 65,536 ways.
_ACCOUNT = re.compile(r"\b[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]{1,4}+){0,8}+[ -]?$")


def before(text: str, start: int, reach: int = BEFORE) -> str:
    """The characters before ``start``, at most ``reach``."""
    return text[max(0, start - reach) : start]


def is_reference(text: str, start: int) -> bool:
    """True when the words right before ``start`` name a number of a firm, or begin a longer number."""
    return REFERENCE.search(before(text, start)) is not None or _ACCOUNT.search(before(text, start, 44)) is not None


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


#: Words that say of a number that it is a person's. Looked for before it, and a little behind.
_NAMED = re.compile(
    r"(?i)\b(?:ssn|social security|social insurance|sin\b|nino|national insurance|nhs|bsn|burgerservicenummer|pesel"
    r"|personnummer|personal (?:id|number|code|identity)"
    r"|national (?:id|identity|identification|registry|register)|id number|identity (?:number|card|no)|citizen|tax (?:id|number"
    r"|identification|payer)|taxpayer|steuer|idnr|nif\b|nie\b|dni\b|cpf\b"
    r"|cnp\b|rijksregister|registre national|insz|niss|fiscal|codice fiscale|sécu|insee|nir\b|ahv|avs\b|hetu|henkilötunnus"
    r"|aadhaar|egn\b|fødselsnummer|cpr\b)"
)


class _Rule(NamedTuple):
    """``form`` finds candidates; ``holds`` checks letters and digits alone; ``alone``: needs no word beside it."""

    form: re.Pattern[str]
    holds: Callable[[str], bool]
    alone: bool


def national_ids(text: str) -> Iterator[Span]:
    """Numbers of one of the known forms whose check holds."""
    for rule in _RULES:
        for match in rule.form.finditer(text):
            number = re.sub(r"[\W_]", "", match[0]).upper()
            if rule.holds(number) and (rule.alone or _named(text, match.start(), match.end())) and not _is_other(text, match.start()):
                yield Span(match.start(), match.end(), PersonalKind.NATIONAL_ID)


def _named(text: str, start: int, end: int) -> bool:
    return _NAMED.search(before(text, start, 48)) is not None or _NAMED.search(text[end : end + 24]) is not None


def _is_other(text: str, start: int) -> bool:
    return is_reference(text, start) and not _NAMED.search(before(text, start, 24))


def _is_date(century_year: int, month: int, day: int) -> bool:
    try:
        date(century_year, month, day)
    except ValueError:
        return False
    return True


def _pesel(digits: str) -> bool:
    """Poland: ten digits weighted 1 3 7 9, and a birth date whose month tells the century (Dz.U. 2010 nr 217 poz. 1427)."""
    century, month = divmod(int(digits[2:4]), 20)
    years = {4: 1800, 0: 1900, 1: 2000, 2: 2100, 3: 2200}
    check = (10 - weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), 10)) % 10
    return check == int(digits[10]) and _is_date(years[century] + int(digits[:2]), month, int(digits[4:6]))


def _swedish(digits: str) -> bool:
    """Sweden: Luhn over ten digits, the first six a date; the day of a coordination number is 60 higher (SKV 704)."""
    short = digits[-10:]
    day = int(short[4:6]) - (60 if int(short[4:6]) > 60 else 0)
    return luhn(short) and _is_date(2000 + int(short[:2]), int(short[2:4]), day)


def _finnish(code: str) -> bool:
    """Finland: remainder 31 of date and number, as a letter (VTJ)."""
    digits = code[:6] + code[-4:-1]
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == code[-1] and _is_date(
        2000 + int(code[4:6]), int(code[2:4]), int(code[:2])
    )


def _spanish(code: str) -> bool:
    """Spain, DNI and NIE: remainder 23 as a letter (Real Decreto 1553/2005)."""
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(code[:-1].translate(str.maketrans("XYZ", "012"))) % 23] == code[-1]


_ODD = {
    **dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)),
    **dict(
        zip(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
            strict=True,
        )
    ),
}


def _italian(code: str) -> bool:
    """Italy, codice fiscale: characters at odd places by table, at even ones by value, modulo 26 (D.M. 23/12/1976)."""
    even = (int(character) if character.isdigit() else ord(character) - 65 for character in code[1:15:2])
    return (sum(_ODD[character] for character in code[0:15:2]) + sum(even)) % 26 == ord(code[15]) - 65


def _french(code: str) -> bool:
    """France, NIR: 97 less the remainder of the first thirteen; Corsica's letters count as 19 and 18 (décret 82-103)."""
    number = code[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(code[13:])


def _belgian(digits: str) -> bool:
    """Belgium: 97 less the remainder of the first nine, with a 2 before them for those born after 1999 (AR 3/4/1984)."""
    return 97 - int(digits[:9]) % 97 == int(digits[9:]) or 97 - int("2" + digits[:9]) % 97 == int(digits[9:])


def _german(digits: str) -> bool:
    """Germany, tax number: ISO 7064 MOD 11,10; one digit among the first ten comes twice or three times (§ 139b AO)."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    return digits[0] != "0" and iso7064_mod11_10(digits) and counts[-1] in (2, 3)


def _dutch(digits: str) -> bool:
    """Netherlands, BSN: the test of eleven."""
    return weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1), 11) == 0 and int(digits) > 0


def _nhs(digits: str) -> bool:
    """United Kingdom, NHS number: modulo 11."""
    return (11 - weighted(digits, range(10, 1, -1), 11)) % 11 == int(digits[9])


def _cpf(digits: str) -> bool:
    """Brazil, CPF: two check digits modulo 11."""
    first = weighted(digits, range(10, 1, -1), 11)
    second = weighted(digits, range(11, 1, -1), 11)
    return len(set(digits)) > 1 and [(0 if rest < 2 else 11 - rest) for rest in (first, second)] == [int(digits[9]), int(digits[10])]


def _norwegian(digits: str) -> bool:
    """Norway: two check digits modulo 11."""
    first = (11 - weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2), 11)) % 11
    second = (11 - weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), 11)) % 11
    return [first, second] == [int(digits[9]), int(digits[10])] and _is_date(2000 + int(digits[4:6]), int(digits[2:4]), int(digits[:2]))


def _romanian(digits: str) -> bool:
    """Romania, CNP: weights 279146358279, modulo 11."""
    check = weighted(digits, [int(weight) for weight in "279146358279"], 11)
    return (1 if check == 10 else check) == int(digits[12]) and _is_date(2000 + int(digits[1:3]), int(digits[3:5]), int(digits[5:7]))


def _bulgarian(digits: str) -> bool:
    """Bulgaria, EGN: weights of powers of two, modulo 11."""
    month = int(digits[2:4]) % 20
    check = weighted(digits, (2, 4, 8, 5, 10, 9, 7, 3, 6), 11) % 10
    return check == int(digits[9]) and _is_date(2000 + int(digits[:2]), month, int(digits[4:6]))


def _ssn(digits: str) -> bool:
    """United States: no check digit; some areas, groups and serials are never given (SSA)."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _aadhaar(digits: str) -> bool:
    """India: Verhoeff; never begins with 0 or 1 (UIDAI)."""
    return digits[0] not in "01" and verhoeff(digits)


def _swiss(digits: str) -> bool:
    """Switzerland, AHV number: an EAN-13 that begins with 756."""
    return digits.startswith("756") and (weighted(digits, [1, 3] * 7, 10) == 0)


def _rule(form: str, holds: Callable[[str], bool], *, alone: bool = True) -> _Rule:
    # Letters and digits of ASCII alone: without this, ``[A-Z]`` takes İ and ſ for letters that no table of a check has.
    return _Rule(re.compile(rf"(?i)(?<![\w+-])(?a:{form})(?![\w-])"), holds, alone)


_RULES = (
    _rule(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", _italian),
    _rule(r"\d{8}[ -]?[A-Z]|[XYZ][ -]?\d{7}[ -]?[A-Z]", _spanish),
    _rule(r"[12][ ]?\d\d[ ]?(?:0[1-9]|1[0-2]|[2-9]\d)[ ]?(?:\d\d|2[AB])[ ]?\d{3}[ ]?\d{3}[ ]?\d\d", _french),
    _rule(r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", _swiss),
    _rule(r"\d{6}[-+ABCDEFUVWXY]\d{3}[0-9A-FHJ-NPR-Y]", _finnish),
    _rule(r"(?:19|20)?\d{6}[-+]\d{4}", _swedish),
    _rule(r"\d{3}\.\d{3}\.\d{3}-\d\d", _cpf),
    _rule(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", _belgian),
    _rule(r"\d{11}", _pesel),
    _rule(r"\d{3}-\d\d-\d{4}", _ssn),
    _rule(r"\d{9}|\d{3} \d\d \d{4}", _ssn, alone=False),
    _rule(r"\d{11}", _belgian, alone=False),
    _rule(r"\d{11}|\d{2} \d{3} \d{3} \d{3}", _german, alone=False),
    _rule(r"\d{11}|\d{6} \d{5}", _norwegian, alone=False),
    _rule(r"\d{11}", _cpf, alone=False),
    _rule(r"(?:19|20)?\d{10}", _swedish, alone=False),
    _rule(r"\d{9}|\d{4}[. ]\d\d[. ]\d{3}", _dutch, alone=False),
    _rule(r"\d{10}|\d{3}[ -]\d{3}[ -]\d{4}", _nhs, alone=False),
    _rule(r"\d{10}", _bulgarian, alone=False),
    _rule(r"\d{13}", _romanian, alone=False),
    _rule(r"\d{9}|\d{3}[ -]\d{3}[ -]\d{3}", luhn, alone=False),
    _rule(r"\d{12}|\d{4}[ -]\d{4}[ -]\d{4}", _aadhaar, alone=False),
    _rule(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ ]?\d\d[ ]?\d\d[ ]?\d\d[ ]?[A-D]", lambda _: True),
)


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
