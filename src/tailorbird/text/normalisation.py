"""Text normalisation for comparison, and nearest known word for suggestions."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


def normalise(text: str) -> str:
    """NFKC, case-folded, white space squeezed: two texts that normalise alike are exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


#: Raised and lowered digits behind a digit, and a fraction behind one: NFKC would make one number of both.
_RAISED, _FRACTION = re.compile(r"(?<=\d)(?=[⁰¹²³⁴-⁻₀-₋])"), re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")


def normalise_answer(text: str) -> str:
    """As ``normalise``, but what is raised, lowered or a fraction behind a digit stays apart from it: 10² is not 102, nor 1½ 11⁄2."""
    if text.isascii():
        return normalise(text)
    return normalise(_FRACTION.sub(" ", _RAISED.sub("^", text)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when nothing is near: for "did you mean"."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return matches[0] if matches else None
