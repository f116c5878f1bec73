"""Containment: known texts and names found in other texts, whatever their case, spaces and punctuation.

Looking through a text costs about its own length, however many texts are known: a long one is looked up by its first eight words. Where no
space tells a name from what stands beside it (Chinese, Japanese, Thai, and the endings of Korean), a word is one character. What is short
there may be a part of anybody's word: two Chinese characters are a name, and of a script of sounds it takes as many as elsewhere.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tailorbird.chat.conversations import MARK, parts_of
from tailorbird.text.words import HAN, UNSPACED, normalise, word_tokens

#: A text of fewer words than this is known again only where it is all that is said: as a part, it may be anybody's.
PART_WORDS = 8
#: Letters that a name needs to be looked for within texts: "7" or "Al" would be found everywhere.
NAME_LETTERS = 5
_HANGUL = "\uac00-\ud7a3"
_SYLLABLE = re.compile(f"[{_HANGUL}]")
_PIECE = re.compile(f"[{_HANGUL}]|[^{_HANGUL}]+")

_Words = tuple[str, ...]


class _Counts(NamedTuple):
    """What a character that is a word counts for: as letters of a name, and as words of a part."""

    letters: int
    words: float


#: By the script of the character. A syllable of Korean is a word where a run of them begins, and none within.
_COUNTS = (
    (re.compile(f"[{HAN}]"), _Counts(letters=3, words=0.5)),
    (re.compile(f"[{UNSPACED}]"), _Counts(letters=1, words=0.25)),
    (_SYLLABLE, _Counts(letters=2, words=1)),
)


class _ReadText(NamedTuple):
    """Words of a text, and the places of those that stand within a run of Korean syllables, not at its beginning."""

    words: _Words
    within: frozenset[int] = frozenset()

    def size(self) -> float:
        """How many words they count for."""
        return sum(_counts(word).words for place, word in enumerate(self.words) if place not in self.within)

    def letters(self) -> int:
        """How many letters they count for."""
        return sum(_counts(word).letters for word in self.words)


class TextFinder:
    """Tells texts that hold one of ``texts``, or name one of ``names``."""

    def __init__(self, texts: Iterable[str], names: Iterable[str] = ()) -> None:
        self._whole = set[_Words]()
        self._parts: dict[_Words, set[_Words]] = defaultdict(set)
        for read in map(_read, texts):
            if read.words:
                self._whole.add(read.words)
            if read.size() >= PART_WORDS:
                self._parts[read.words[:PART_WORDS]].add(read.words)
        self._names: dict[str, set[_Words]] = defaultdict(set)
        for name in filter(is_long_name, names):
            words = _read(name).words
            self._names[words[0]].add(words)

    def __bool__(self) -> bool:
        return bool(self._whole or self._names)

    def held_by(self, text: str) -> bool:
        """True when ``text`` is one of the texts, holds one of eight words or more, or has one of the names among its words."""
        return self._is_held(text) or (text.startswith(MARK) and any(map(self._is_held, parts_of(text))))

    def _is_held(self, text: str) -> bool:
        read = _read(text)
        return read.words in self._whole or any(self._begins(read, place) for place in range(len(read.words)))

    def _begins(self, read: _ReadText, place: int) -> bool:
        words = read.words
        names = () if place in read.within else self._names.get(words[place], ())
        return _any_at(words, place, self._parts.get(words[place : place + PART_WORDS], ())) or _any_at(words, place, names)


def _any_at(words: _Words, place: int, known: Iterable[Sequence[str]]) -> bool:
    return any(words[place : place + len(each)] == each for each in known)


def is_long(text: str) -> bool:
    """True where a text has words enough to be known again as a part of another."""
    return _read(text).size() >= PART_WORDS


def is_long_name(name: str) -> bool:
    """True where a name has letters enough to be looked for within texts: a shorter one stands in other people's words."""
    return _read(name).letters() >= NAME_LETTERS


def _counts(word: str) -> _Counts:
    return next((counts for script, counts in _COUNTS if script.match(word)), _Counts(letters=len(word), words=1))


def _read(text: str) -> _ReadText:
    normalised = normalise(text)
    tokens = word_tokens(normalised)
    if not _SYLLABLE.search(normalised):
        return _ReadText(tuple(tokens))
    pieces = [piece for token in tokens for piece in _pieces(token)]
    return _ReadText(tuple(piece for piece, _ in pieces), frozenset(place for place, (_, within) in enumerate(pieces) if within))


def _pieces(token: str) -> Iterator[tuple[str, bool]]:
    """Syllables of Korean and what stands between them, each with whether it is a syllable right behind another."""
    before = False
    for piece in _PIECE.findall(token):
        syllable = _SYLLABLE.match(piece) is not None
        yield piece, before and syllable
        before = syllable
