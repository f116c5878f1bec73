"""Bytes that the tokens of a vocabulary stand for: tokens have the same name whichever engine tells of them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer


class TokenBytes:
    """The bytes of each token of ``tokenizer``. Safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def of(self, token: int) -> bytes:
        """The bytes that a token stands for, also where they are no whole character; those of its name, for a control token; none where the
        vocabulary ends before it."""
        name = self._tokenizer.id_to_token(token) or ""
        if self._byte_level and all(letter in _BYTE_OF_LETTER for letter in name):
            return bytes(_BYTE_OF_LETTER[letter] for letter in name)
        if not self._byte_level and (byte := _BYTE_NAME.fullmatch(name)):
            return bytes.fromhex(byte[1])
        return name.replace("▁", " ").encode()

    @cached_property
    def _byte_level(self) -> bool:
        """True where the vocabulary writes bytes as letters; others name a byte (``<0x0A>``) where they have no word for it."""
        decoder: Any = self._tokenizer.decoder
        return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level vocabularies write bytes with: printable ones stand for themselves, the rest follow after 255 (Radford et
    al. 2019, GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(rest)}


_BYTE_OF_LETTER = _byte_letters()
_BYTE_NAME = re.compile("<0x([0-9A-F]{2})>")
