"""Passwords, keys and tokens, found by their prefix, or by the word before them and their entropy."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

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
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), PersonalKind.SECRET)
    for match in _NAMED.finditer(text):
        value = match[1].rstrip(".!?)")
        if _is_random(value):
            yield Span(match.start(1), match.start(1) + len(value), PersonalKind.SECRET)


def _is_random(value: str) -> bool:
    """Letters and digits mixed (or long), and enough entropy (Shannon 1948) a character."""
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values()) if value else 0.0
    kinds = sum(any(test(character) for character in value) for test in (str.islower, str.isupper, str.isdigit, _is_mark))
    return bits >= _BITS and (kinds >= 3 or (kinds == 2 and any(map(str.isdigit, value)) and len(value) >= 8))


def _is_mark(character: str) -> bool:
    return not character.isalnum()
