"""Words of a text in any script: for search, and for metrics of overlap."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import pairwise

#: Chinese characters, and signs that stand for one (as in 佐々木).
HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
#: Scripts written without spaces (Thai to Khmer, kana, Han): there a word is one character. Their punctuation lies in the same ranges.
UNSPACED = f"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff{HAN}"
_SPACED = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_PLAIN = re.compile(r"\w+")
#: From the first combining mark on: a text without these has neither marks nor characters of a script without spaces.
_BEYOND = re.compile("[\u0300-\U0010ffff]")
#: What a word counts for, in quarters, and a character that is a token for itself.
WORD_WEIGHT, _HAN, _SOUND = 4, 2, 1
_ONE_UNSPACED, _ONE_HAN = re.compile(f"[{UNSPACED}]"), re.compile(f"[{HAN}]")


def holds_unspaced(text: str) -> bool:
    """True for a text with a character of a script without spaces."""
    return not text.isascii() and _ONE_UNSPACED.search(text) is not None


def is_unspaced(character: str) -> bool:
    """True for a character of a script without spaces, which is a word for itself."""
    return _ONE_UNSPACED.match(character) is not None


def is_han(character: str) -> bool:
    """True for a Chinese character."""
    return _ONE_HAN.match(character) is not None


def word_weight(token: str) -> int:
    """What a token counts for, in quarters of a word: two Chinese characters are about one word, and four of kana, Thai, Lao, Burmese or
    Khmer."""
    if token.isascii() or not is_unspaced(token[0]):
        return WORD_WEIGHT
    return _HAN if is_han(token[0]) else _SOUND


def word_tokens(text: str) -> list[str]:
    """Runs of letters, digits and underscores, with the marks that belong to them (vowel signs of Hindi, say); each character of a script
    without spaces for itself. Case and forms of Unicode are left as they are."""
    if text.isascii() or _BEYOND.search(text) is None:
        return _PLAIN.findall(text)
    return _tokens().findall(text)


def paired_tokens(text: str) -> list[str]:
    """As ``word_tokens``, but neighbouring characters of a script without spaces in pairs, each with the next: by single ones everything
    would be found (as the CJK bigrams of Lucene). One that stands alone stays alone."""
    if text.isascii():
        return _PLAIN.findall(text)
    tokens: list[str] = []
    for run in _runs().findall(text):
        parts = _tokens().findall(run)
        tokens += [run] if len(parts) == 1 else [one + other for one, other in pairwise(parts)]
    return tokens


def spaced_tokens(text: str) -> list[str]:
    """What stands between spaces, marks included; each character of a script without spaces for itself."""
    return text.split() if text.isascii() else _SPACED.findall(text)


@cache
def _marks() -> str:
    """All combining marks of Unicode's first plane, as they stand in a class: ``\\w`` has none of them. Made where a text needs them."""
    return "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark)[0] == "M")


def _character() -> str:
    """A letter, digit or mark of a script without spaces: none of its punctuation, which is no word."""
    return rf"[{UNSPACED}](?<=[\w{_marks()}])[{_marks()}]*"


@cache
def _tokens() -> re.Pattern[str]:
    return re.compile(rf"{_character()}|(?:[^\W{UNSPACED}][{_marks()}]*)+")


@cache
def _runs() -> re.Pattern[str]:
    return re.compile(rf"(?:{_character()})+|(?:[^\W{UNSPACED}][{_marks()}]*)+")
