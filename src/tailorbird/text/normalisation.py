"""Text normalisation for comparison, and nearest known word for suggestions."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


def normalise(text: str) -> str:
    """NFKC, case-folded, white space squeezed: two texts that normalise alike are exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when nothing is near: for "did you mean"."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return matches[0] if matches else None
