"""Token reader: pieces of a rendered conversation as token ids, in which no text makes a control token."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.text.prompt_rendering import PromptPiece, token_ids

#: Special tokens that a configuration names, and that chat templates may write by that name.
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MOST_ID = 2**32


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder``: nothing is cut or padded, and special tokens that the configuration names are special.

    Raises ModelInvalid when it cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise ModelInvalid(
            f"the tokenizer in {folder.name} cannot be read",
            "pull the base model again; a model without a tokenizer.json cannot be used",
            code="model_tokenizer",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = False
    known = {token.content: token.special for token in tokenizer.get_added_tokens_decoder().values()}
    named = [name for name in dict.fromkeys(_marked_special(folder)) if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in named if name not in known])
    unmarked = [name for name in named if known.get(name) is False]
    return with_flags(tokenizer, unmarked, special=True) if unmarked else tokenizer


def special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that the tokenizer's configuration names (``bos_token``, ``eos_token`` and so on). Raises ModelInvalid."""
    named = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    texts = {name: value.get("content") if isinstance(value := named.get(name), dict) else value for name in _NAMED}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def _marked_special(folder: Path) -> list[str]:
    """Names of all tokens that the tokenizer's configuration marks as special. Raises ModelInvalid."""
    config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    further, added = config.get("additional_special_tokens"), config.get("added_tokens_decoder")
    listed = further if isinstance(further, list) else []
    marked = (
        [token for token in added.values() if isinstance(token, dict) and token.get("special") is True] if isinstance(added, dict) else []
    )
    names = [token.get("content") if isinstance(token, dict) else token for token in (*listed, *marked)]
    return [*special_tokens(folder).values(), *(name for name in names if isinstance(name, str) and name)]


def declared_ends(folder: Path) -> set[int]:
    """The end tokens in ``config.json`` and ``generation_config.json`` (``eos_token_id``). Raises ModelInvalid."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        listed = value if isinstance(value, list) else [value]
        found.update(token for token in listed if type(token) is int and 0 <= token < _MOST_ID)
    return found


def with_flags(tokenizer: Tokenizer, names: Collection[str], **flags: bool) -> Tokenizer:
    """A copy of ``tokenizer`` in which the added tokens ``names`` have other ``flags``."""
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        if token["content"] in names:
            token.update(flags)
    return Tokenizer.from_str(json.dumps(content))


def _read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none. Raises ModelInvalid."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(f"{path.parent.name} has no readable {path.name}", "pull the base model again", code="model_config") from error
    return content if isinstance(content, dict) else {}


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
