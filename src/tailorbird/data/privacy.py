"""Personal data and secrets: detected by rules, counted, and treated by the policy of the objective.

Most texts hold neither a digit, an @ nor a word like "password", and are skipped after one search; the others meet only the detectors whose
mark they carry.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import re
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tailorbird.chat.conversations import MARK, with_parts
from tailorbird.data.checked_numbers import before, cards, ibans, is_reference, national_ids
from tailorbird.domain.curation import WITHHELD, PersonalKind, PrivacyAction, PrivacyPolicy
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import split_reasoning, with_reasoning
from tailorbird.ports.detector import Detector, Span

_EMAIL = re.compile(r"(?<![\w.%+-])[\w%+'-][\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])")
#: An address that hides from harvesters, whose words say what it is.
_HIDDEN = re.compile(r"(?i)(?<![\w.])[\w.+-]{1,64}\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)[\w-]+){1,4}")
_CREDENTIALS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,80}:[^\s/@]{1,200}@[^\s\"'<>]+")
_FOUR = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
_SIX = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:])")
_VERSION = re.compile(r"(?i)\b(?:v|ver|version|release|firmware|build|update|section|chapter|clause|kapitel|abschnitt)[\s.:]*$")
#: What ends like a name of a domain and is a file.
_FILES = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "htm", "pdf", "txt", "py", "md"])


def _spans_of(pattern: re.Pattern[str], kind: PersonalKind, text: str, group: int = 0) -> Iterator[Span]:
    return (Span(match.start(group), match.end(group), kind) for match in pattern.finditer(text))


def emails(text: str) -> Iterator[Span]:
    """Addresses with a top-level domain."""
    for span in _spans_of(_EMAIL, PersonalKind.EMAIL, text):
        if text[span.start : span.end].rpartition(".")[2].lower() not in _FILES:
            yield span
    yield from _spans_of(_HIDDEN, PersonalKind.EMAIL, text)


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
        money = _MONEY.search(before(text, match.start(), 5)) is not None
        if is_reference(text, match.start()) or _DATE.fullmatch(found) or money:
            continue
        international = found.startswith(("+", "00"))
        called = _CALLING.search(before(text, match.start())) is not None
        if not international and not called and not _written_like_one(found):
            continue
        if any(_valid(found, region) for region in (("ZZ", *regions) if found.startswith("+") else regions)):
            yield Span(match.start(), match.start() + len(found), PersonalKind.PHONE)


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


_PREFIXED = re.compile(
    r"(?<![\w-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,}|xox[abeoprs]-[\w-]{10,}"
    r"|sk_(?:live|test)_\w{16,}|rk_live_\w{16,}|sk-(?:proj-|ant-)?[\w-]{20,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hf_[A-Za-z0-9]{30,}"
    r"|npm_[A-Za-z0-9]{36}"
    r"|pypi-[\w-]{50,}|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[0-9a-f]{64}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})"
)
_BLOCK = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[\s\S]*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|\Z)")
_NAMED = re.compile(
    r"(?i)\b(?:pass(?:word|phrase|wd|code)?|pwd|secret|token|api[ _-]?key|access[ _-]?key|client[ _-]?secret|auth(?:orization)?"
    r"|bearer|passwort|kennwort)\b"
    r"\s*(?:is|was|=>|[:=]|ist)\s*[\"'`]?([^\s\"'`,;]{6,200})"
)
#: Bits a character of a named secret must have at least: words have fewer.
_BITS = 2.5


def secrets(text: str) -> Iterator[Span]:
    """Keys with a known prefix, private keys, and random-looking values that are called a password, a token or a key."""
    for pattern in (_PREFIXED, _BLOCK):
        yield from _spans_of(pattern, PersonalKind.SECRET, text)
    for match in _NAMED.finditer(text):
        value = match[1].rstrip(".!?)")
        if _is_random(value):
            yield Span(match.start(1), match.start(1) + len(value), PersonalKind.SECRET)


def _is_random(value: str) -> bool:
    """Letters and digits mixed (or long), and enough entropy (Shannon 1948) a character."""
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values()) if value else 0.0
    kinds = sum(
        any(test(character) for character in value) for test in (str.islower, str.isupper, str.isdigit, lambda mark: not mark.isalnum())
    )
    return bits >= _BITS and (kinds >= 3 or (kinds == 2 and any(map(str.isdigit, value)) and len(value) >= 8))


_log = logging.getLogger("tailorbird.data")

#: The version of all rules of this folder.
VERSION = "2"
#: Version of how texts are treated: since 2 each turn and argument of a folded conversation by itself.
_TREATMENT = "2"

_WORTH_A_LOOK = re.compile(r"[@\d]|::|-----BEGIN|(?i:\bat[\])}]|passw|kennw|passphrase|secret|token|bearer|api.?key)")
_SECRET_MARK = re.compile(
    r"(?i)pass|pwd|secret|token|key|auth|bearer|kennwort|akia|asia|gh[pousr]_|github_pat|glpat-|xox|[sr]k[_-]|aiza|ya29|hf_"
    r"|npm_|pypi-|sg\.|dop_|eyj"
)
_NOT_DIGITS = re.compile(r"\D+")
#: A digit of another script, which counts as what it stands for.
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")


class OwnDetector:
    """Rule-based detector. Implements the port ``Detector``."""

    name = "tailorbird"
    version = VERSION

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of place."""
        return [self._spans(text) if _WORTH_A_LOOK.search(text) else [] for text in texts]

    def _spans(self, text: str) -> list[Span]:
        return disjoint(self._found(text if text.isascii() else _FOREIGN_DIGIT.sub(lambda digit: str(int(digit[0])), text)))

    def _found(self, text: str) -> Iterator[Span]:
        """Surest kinds first."""
        digits = len(_NOT_DIGITS.sub("", text))
        if "@" in text or "at" in text:
            yield from _spans_of(_CREDENTIALS, PersonalKind.URL_CREDENTIALS, text)
            yield from emails(text)
        if _SECRET_MARK.search(text) or "-----BEGIN" in text:
            yield from secrets(text)
        if digits >= 10:
            yield from ibans(text)
            yield from cards(text)
        if digits >= 6:
            yield from national_ids(text)
        if digits >= 5:
            yield from _spans_of(_BORN, PersonalKind.BIRTH_DATE, text, 1)
        if digits >= 4 or "::" in text:
            # IPv4 and IPv6 addresses; four numbers after the word "version" are none.
            for match in _FOUR.finditer(text):
                if _parses(match[0]) and not _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
                    yield Span(match.start(), match.end(), PersonalKind.IP)
            for match in _SIX.finditer(text):
                if match[0].count(":") > 1 and len(match[0]) > 4 and _parses(match[0]):
                    yield Span(match.start(), match.end(), PersonalKind.IP)
        if digits >= 7:
            yield from phones(text, self._regions)


def disjoint(spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """The spans of which none overlaps an earlier one, in order of place. A text may hold one every few letters: each is compared with its
    neighbours alone."""
    taken: list[Span] = []
    for span in spans:
        place = bisect_left(taken, span)
        follows = place == len(taken) or span.end <= taken[place].start
        if follows and (not place or taken[place - 1].end <= span.start):
            taken.insert(place, span)
    return taken


#: Texts that detectors get at once.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text after the policy. ``counts`` is how often each kind was found; ``drop`` that the row must go; ``failed`` that a detector
    failed on it: then ``text`` is ``WITHHELD``."""

    text: str
    counts: dict[PersonalKind, int] = field(default_factory=dict)
    drop: bool = False
    failed: bool = False


class Redaction:
    """One policy, ready to be applied (``policy``). Raises InvalidInput when pseudonyms are asked for and there is no key."""

    def __init__(self, policy: PrivacyPolicy, others: Sequence[Detector] = (), key: bytes = b"") -> None:
        self.policy = policy
        self._detectors: list[Detector] = [OwnDetector(policy.regions), *others]
        self._key = key
        if not key and PrivacyAction.PSEUDONYMISE in (policy.default, *policy.kinds.values()):
            hint = "run it from a workspace, which keeps the key, or use redact"
            raise InvalidInput("pseudonyms need a key, and there is none", hint)

    @property
    def schemes(self) -> dict[str, str]:
        """Which version of each detector looks."""
        return {f"privacy.{detector.name}": detector.version for detector in self._detectors} | {"privacy": _TREATMENT}

    def treat(self, texts: Sequence[str]) -> list[RedactedText]:
        """Texts after the policy. In a conversation that is folded into one text, or an answer that calls functions, each text is looked at
        by itself: what JSON writes of a line break would hide what stands behind it. A text on which a detector fails is withheld, and no
        other: those beside it are looked at without it."""
        try:
            folded = [split_reasoning(text)[1].startswith(MARK) for text in texts]
            plain = iter(self._treated([text for text, has_parts in zip(texts, folded, strict=True) if not has_parts]))
            return [self._treat_folded(text) if has_parts else next(plain) for text, has_parts in zip(texts, folded, strict=True)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the text must not pass, and must not end the work on the others
            if len(texts) > 1:
                half = len(texts) // 2
                return self.treat(texts[:half]) + self.treat(texts[half:])
            # The message of the error may hold words of the text.
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
            _log.warning("a text is withheld, because a detector of personal data failed on it: %s", where)
            return [RedactedText(WITHHELD, failed=True)]

    def _treat_folded(self, text: str) -> RedactedText:
        """A folded text, with reasoning before it where there is some."""
        reasoning, said = split_reasoning(text)
        if not reasoning:
            return self._treat_parts(said)
        [before], after = self._treated([reasoning]), self._treat_parts(said)
        counts = Counter(before.counts) + Counter(after.counts)
        return RedactedText(with_reasoning(before.text, after.text), dict(counts), before.drop or after.drop)

    def _treat_parts(self, text: str) -> RedactedText:
        parts = list[str]()

        def noted(part: str) -> str:
            parts.append(part)
            return part

        with_parts(text, noted)
        known, counts, drops = dict(zip(parts, self._treated(parts), strict=True)), Counter[PersonalKind](), list[bool]()

        def changed(part: str) -> str:
            found = known[part] if part in known else self._treated([part])[0]
            counts.update(found.counts)
            drops.append(found.drop)
            return found.text

        return RedactedText(with_parts(text, changed), dict(counts), any(drops))

    def _treated(self, texts: Sequence[str]) -> list[RedactedText]:
        treated: list[RedactedText] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            found = [detector.detect(batch) for detector in self._detectors]
            treated += [self._treat(text, [spans[place] for spans in found]) for place, text in enumerate(batch)]
        return treated

    def _treat(self, text: str, found: list[list[Span]]) -> RedactedText:
        if not any(found):
            return RedactedText(text)
        spans = disjoint([span for spans in found for span in spans])
        counts = Counter(span.kind for span in spans)
        drop = any(self.policy.action(kind) is PrivacyAction.DROP for kind in counts)
        return RedactedText(self._rewritten(text, spans), dict(counts), drop)

    def _rewritten(self, text: str, spans: list[Span]) -> str:
        parts: list[str] = []
        reached = 0
        for span in spans:
            parts += [text[reached : span.start], self._shown(text[span.start : span.end], span.kind)]
            reached = span.end
        return "".join([*parts, text[reached:]])

    def _shown(self, value: str, kind: PersonalKind) -> str:
        action = self.policy.action(kind)
        if action is PrivacyAction.REDACT:
            return f"[{kind.value.upper()}]"
        if action is PrivacyAction.PSEUDONYMISE:
            return f"[{kind.value.upper()}-{self._pseudonym(value, kind)}]"
        return value

    def _pseudonym(self, value: str, kind: PersonalKind) -> str:
        """The same for every spelling of a value that differs in case, spaces and marks only."""
        plain = "".join(character for character in value.casefold() if character.isalnum())
        return hmac.new(self._key, f"tailorbird/pseudonym/1/{kind.value}/{plain}".encode(), hashlib.sha256).hexdigest()[:8]
