"""Token reader: pieces of a rendered conversation as token ids, in which no text makes a control token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

from tailorbird.text.prompt_rendering import PromptPiece, token_ids
from tailorbird.text.tokenizer_files import with_flags


class TokenReader:
    """Reads by ``tokenizer``. ``token_of`` are the control tokens by their names; ``unknown`` the names of those that stand for an unknown
    letter. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, token_of: Mapping[str, int], unknown: Sequence[str | None]) -> None:
        self.tokenizer = tokenizer
        self.control, self._token_of = tuple(token_of), token_of
        self._unknown = unknown

    def ids(self, texts: Sequence[Sequence[PromptPiece]]) -> list[list[int]]:
        """Token ids of each text, given in pieces."""
        return token_ids(texts, self._read, self._read_literally)

    def _read(self, texts: list[str]) -> list[list[int]]:
        found = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        if self.tokenizer.normalizer is None:
            return found
        return [self._read_in_parts(text) if self._is_forged(text, ids) else ids for text, ids in zip(texts, found, strict=True)]

    def _is_forged(self, text: str, ids: list[int]) -> bool:
        """True where a normaliser made the name of a control token of another spelling, and the vocabulary has that name as a word."""
        count = sum(token in self._forgeable for token in ids)
        return count > 0 and count > len(self._names.findall(text))

    def _read_in_parts(self, text: str) -> list[int]:
        """The control tokens that ``text`` names, and what is between them without any."""
        parts = [part for part in self._names.split(text) if part]
        return [
            token for part in parts for token in ([self._token_of[part]] if part in self._token_of else self._read_literally([part])[0])
        ]

    def _read_literally(self, texts: list[str]) -> list[list[int]]:
        """Ids of ``texts`` without any control token."""
        found = [encoding.ids for encoding in self._literal.encode_batch_fast(texts, add_special_tokens=False)]
        return [ids if self._forgeable.isdisjoint(ids) else self._read_by_letters(text) for text, ids in zip(texts, found, strict=True)]

    def _read_by_letters(self, text: str) -> list[int]:
        """Where the vocabulary has control tokens as words: letter by letter, in which there is none."""
        return [token for letter in self._literal.encode_batch_fast(list(text), add_special_tokens=False) for token in letter.ids]

    @cached_property
    def _forgeable(self) -> frozenset[int]:
        """Control tokens that no text may become. What stands for an unknown letter is one of the special tokens, too."""
        model: Any = self.tokenizer.model
        unknown = (*self._unknown, getattr(model, "unk_token", None))
        return frozenset(token for name, token in self._token_of.items() if name not in unknown)

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(re.escape(name) for name in sorted(self.control, key=len, reverse=True)) + ")")

    @cached_property
    def _literal(self) -> Tokenizer:
        """A tokenizer of its own, and not one that is switched to and fro: that would not bear two threads."""
        literal = with_flags(self.tokenizer, self.control, special=True)
        literal.encode_special_tokens = True
        return literal
