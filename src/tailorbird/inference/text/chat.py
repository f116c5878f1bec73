"""How a conversation becomes tokens, and an answer too."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.text.chat_templates import render
from tailorbird.text.prompt_rendering import PromptPiece, quoted, render_pieces, token_ids

#: Stands for an assistant's answer while the end of its turn is looked for; no template changes it.
_ANSWER = "tailorbird"


class ChatFormat:
    """A base model's tokenizer and chat template. ``end`` is the token that ends an assistant's turn, ``stops`` all that end generation."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = _read_tokenizer(folder)
        self._template = _read_template(folder)
        named = {"bos_token": self.tokenizer.bos_token, "eos_token": self.tokenizer.eos_token}
        self._special = {name: token for name, token in named.items() if token}
        self.end = self._end_of_turn(folder)
        self.stops = frozenset({self.end, *_end_tokens(folder)})

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """Tokens of each conversation, up to where the assistant begins to answer."""
        return self._tokens([render_pieces(self._template, messages, self._special, self._control) for messages in conversations])

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as an assistant's whole answer, the end of the turn included."""
        return [[*tokens, self.end] for tokens in self._tokens([[PromptPiece(text, quoted(text, self._control))] for text in texts])]

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token stands for; those of its name, for a control token."""
        return _bytes_of(self.tokenizer, token)

    @cached_property
    def _control(self) -> tuple[str, ...]:
        return tuple(added.content for added in self.tokenizer.added_tokens_decoder.values() if added.special)

    @cached_property
    def _literal(self) -> Any:
        return copy.deepcopy(self.tokenizer)

    def _tokens(self, texts: Sequence[Sequence[PromptPiece]]) -> list[list[int]]:
        return token_ids(texts, self._read, self._read_literally)

    def _read(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _read_literally(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._literal(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def _end_of_turn(self, folder: Path) -> int:
        turns = (Message(role="user", content="?"), Message(role="assistant", content=_ANSWER))
        _, found, after = render(self._template, turns, self._special).rpartition(_ANSWER)
        tokens = self._read([after])[0] if found and after else []
        if not tokens:
            raise ModelInvalid(
                f"the chat template of {folder.name} does not end an assistant's turn",
                "use a base model whose template marks where an answer ends",
                code="chat_template",
            )
        return tokens[0]


def _bytes_of(tokenizer: Any, token: int) -> bytes:
    name: str = tokenizer.convert_ids_to_tokens(token) or ""
    if all(letter in _BYTE_OF_LETTER for letter in name):
        return bytes(_BYTE_OF_LETTER[letter] for letter in name)
    return name.replace("▁", " ").encode()


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level vocabularies write bytes with: printable ones stand for themselves, the rest follow after 255 (Radford et
    al. 2019, GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(rest)}


_BYTE_OF_LETTER = _byte_letters()


def _read_tokenizer(folder: Path) -> Any:
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelInvalid(
            f"the tokenizer in {folder.name} cannot be read ({type(error).__name__})", "pull the base model again", code="model_tokenizer"
        ) from error


def _read_template(folder: Path) -> str:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelInvalid(f"{folder.name} has no chat template", "pull the base model again", code="chat_template") from error


def _end_tokens(folder: Path) -> set[int]:
    """End-of-text tokens that the model's own configuration names."""
    ends: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.is_file():
            named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends.update([named] if isinstance(named, int) else named or [])
    return ends
