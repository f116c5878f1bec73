"""Texts of any Unicode: all planes, digits of all scripts, letters whose case changes length, half surrogates, marks and directions."""

from __future__ import annotations

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Mapping

from hypothesis import strategies as st

_ALL = [chr(point) for point in range(sys.maxunicode + 1)]
#: All that Unicode calls a digit or a number, decimal or not.
NUMBERS = [character for character in _ALL if character.isdecimal() or character.isdigit() or character.isnumeric()]
#: Characters whose upper, lower or folded form has another length, or is that of another letter's.
CASED = [c for c in _ALL if len({len(c.upper()), len(c.lower()), len(c.casefold())}) > 1 or c.upper().lower() != c.lower()]
ODD = ["\x00", "\ud800", "\udfff", "\u200f", "\u202e", "\u2066", "\u0301", "\u0345", "\u3099", "\ufeff", "\uffff", "\u2028", "\x85", "\x1c"]
ODD += ["\U000e0001", "\U0001f468\u200d\U0001f469", "가", "각", "漢", "々", "ก็", "한국", "नि", "ﷺ", "ǆ"]


def _lookalikes() -> Mapping[str, list[str]]:
    """By ASCII letter or digit: what Python takes for it when case, value or compatibility are looked at."""
    found: dict[str, list[str]] = defaultdict(list)
    for character in _ALL[128:]:
        alike = {character.upper(), character.lower(), character.casefold(), unicodedata.normalize("NFKC", character)}
        if (value := unicodedata.digit(character, None)) is not None:
            alike.add(str(value))
        for plain in alike:
            if len(plain) == 1 and plain.isascii():
                found[plain.upper()].append(character)
    found["I"] += ["İ", "ı"]
    return found


_LOOKALIKES = _lookalikes()

CHARACTERS = st.one_of(
    st.sampled_from(_ALL),
    st.sampled_from(NUMBERS),
    st.sampled_from(CASED),
    st.sampled_from(ODD),
    st.sampled_from("aZ09 .,-_@:/\n\t|<>{}[]\"'"),
)
ANY_TEXT = st.text(st.sampled_from(_ALL), max_size=30) | st.lists(CHARACTERS, max_size=40).map("".join)


@st.composite
def near(draw: st.DrawFn, known: list[str]) -> str:
    """One of ``known`` with some letters and digits as other scripts write them, perhaps within another text."""
    text = list(draw(st.sampled_from(known)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text) - 1))
        others = _LOOKALIKES.get(text[place].upper())
        text[place] = draw(st.sampled_from(others) if others else CHARACTERS)
    return draw(ANY_TEXT) + draw(st.sampled_from(["", " "])) + "".join(text) + draw(st.sampled_from(["", " "])) + draw(ANY_TEXT)
