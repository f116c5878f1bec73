"""Containment: known texts and names found in other texts, whatever their case, spaces and punctuation.

Looking through a text costs about its own length, however many texts are known: a long one is looked up by its first eight words. Where no
space tells a name from what stands beside it (Chinese, Japanese, Thai, and the endings of Korean), a word is one character.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tailorbird.text.conversations import MARK, parts_of
from tailorbird.text.normalisation import normalise
from tailorbird.text.word_tokens import UNSPACED, word_tokens

#: A text of fewer words than this is known again only where it is all that is said: as a part, it may be anybody's.
PART_WORDS = 8
#: Letters that a name needs to be looked for within texts: "7" or "Al" would be found everywhere.
NAME_LETTERS = 5
#: What one character that is a word counts for: as letters of a name, and as words of a part. Names of two or three characters are whole.
_LETTERS, _WORDS = 3, 0.5
_HANGUL = "\uac00-\ud7a3"
_CHARACTER = re.compile(f"[{UNSPACED}{_HANGUL}]")
_PIECE = re.compile(f"[{_HANGUL}]|[^{_HANGUL}]+")

_Words = tuple[str, ...]


class TextFinder:
    """Tells texts that hold one of ``texts``, or name one of ``names``."""

    def __init__(self, texts: Iterable[str], names: Iterable[str] = ()) -> None:
        self._whole = {words for text in texts if (words := _words(text))}
        self._parts: dict[_Words, set[_Words]] = defaultdict(set)
        for words in self._whole:
            if _size(words) >= PART_WORDS:
                self._parts[words[:PART_WORDS]].add(words)
        self._names: dict[str, set[_Words]] = defaultdict(set)
        for words in map(_words, names):
            if sum(_LETTERS if _CHARACTER.match(word) else len(word) for word in words) >= NAME_LETTERS:
                self._names[words[0]].add(words)

    def __bool__(self) -> bool:
        return bool(self._whole or self._names)

    def held_by(self, text: str) -> bool:
        """True when ``text`` is one of the texts, holds one of eight words or more, or has one of the names among its words."""
        return self._is_held(text) or (text.startswith(MARK) and any(map(self._is_held, parts_of(text))))

    def _is_held(self, text: str) -> bool:
        words = _words(text)
        return words in self._whole or any(self._begins(words, place) for place in range(len(words)))

    def _begins(self, words: _Words, place: int) -> bool:
        known = self._parts.get(words[place : place + PART_WORDS], ())
        return _any_at(words, place, known) or _any_at(words, place, self._names.get(words[place], ()))


def _any_at(words: _Words, place: int, known: Iterable[Sequence[str]]) -> bool:
    return any(words[place : place + len(each)] == each for each in known)


def is_long(text: str) -> bool:
    """True where a text has words enough to be known again as a part of another."""
    return _size(_words(text)) >= PART_WORDS


def _size(words: _Words) -> float:
    return sum(_WORDS if _CHARACTER.match(word) else 1 for word in words)


def _words(text: str) -> _Words:
    tokens = word_tokens(normalise(text))
    return tuple(tokens) if text.isascii() else tuple(piece for token in tokens for piece in _PIECE.findall(token))
