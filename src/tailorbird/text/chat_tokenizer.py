"""Chat tokenizer of a base model: conversations and answers as token ids, the same ones in training, checks, evaluation and serving."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import render
from tailorbird.text.prompt_rendering import PromptPiece, quoted, render_pieces, token_ids
from tailorbird.text.tokenizer_files import declared_ends, read_tokenizer, special_tokens, with_flags

#: Stand for an answer, and for the question after it, while the template is asked what it writes between them.
_ANSWER, _NEXT = "tailorbirdanswer", "tailorbirdquestion"
_ANSWERED = (Message(role="user", content="?"), Message(role="assistant", content=_ANSWER))
_CONTINUED = (*_ANSWERED, Message(role="user", content=_NEXT))
_ASKED = (Message(role="user", content=_NEXT),)
_INSTRUCTED = (Message(role="system", content="."), *_ASKED)


class ChatTokenizer:
    """The tokenizer and chat template of the base model in ``folder``. Safe to share between threads.

    ``special`` are the named special tokens that templates may write. ``control`` are the tokens that steer the model where the template
    writes them and are text where a message does. ``end_of_turn`` are the tokens that end every answer; ``declared`` the end tokens that
    tokenizer and configuration name; ``stops`` all at which generation ends.

    Raises ModelInvalid when tokenizer or template is missing or unusable, or the template does not end an assistant turn.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer = read_tokenizer(folder)
        self.template = _read_template(folder)
        self.special = special_tokens(folder)
        self.declared = frozenset(token for token in self._declared_in(folder) if self.tokenizer.id_to_token(token) is not None)
        self._token_of = self._control_tokens()
        self.control, self._control_ids = tuple(self._token_of), frozenset(self._token_of.values())
        self._match_control_tokens_as_written()
        self.end_of_turn = self._end_of_turn()
        self.stops = self.declared | {self.end_of_turn[-1]}

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """Tokens of each conversation, up to where the assistant begins to answer."""
        return self._ids([render_pieces(self.template, messages, self.special, self.control) for messages in conversations])

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as an assistant's whole answer, the end of the turn included."""
        bare = self._ids([[PromptPiece(text, quoted(text, self.control))] for text in texts])
        return [[*ids, *self.end_of_turn] for ids in bare]

    def is_empty(self, answer: Sequence[int]) -> bool:
        """True for the tokens of an answer that says nothing before its end."""
        return len(answer) <= len(self.end_of_turn)

    def _ids(self, texts: Sequence[Sequence[PromptPiece]]) -> list[list[int]]:
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
        unknown = (self.special.get("unk_token"), getattr(model, "unk_token", None))
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

    def _declared_in(self, folder: Path) -> set[int]:
        end = self.tokenizer.token_to_id(self.special.get("eos_token", ""))
        return declared_ends(folder) | ({end} if end is not None else set())

    def _control_tokens(self) -> dict[str, int]:
        """Special tokens, and added tokens that are not marked as special although they end answers or frame the turns of the template."""
        framing = {token for text in self._framing() for token in self.tokenizer.encode(text, add_special_tokens=False).ids}
        added = self.tokenizer.get_added_tokens_decoder().items()
        return {
            token.content: number
            for number, token in added
            if token.special or number in self.declared or (number in framing and not _is_ordinary(token.content))
        }

    def _framing(self) -> list[str]:
        """What the template writes around the turns of system, user and assistant. What it writes into an answer is not among it: marks of
        reasoning are the model's own to write."""
        texts = [text.rpartition(_ANSWER)[2] for text in self._turns if _ANSWER in text]
        for messages in (_ASKED, _INSTRUCTED):
            with suppress(ModelInvalid):  # a template that knows no system turn writes none
                texts.append(render(self.template, messages, self.special))
        return texts

    def _match_control_tokens_as_written(self) -> None:
        """Where texts are normalised first, another spelling (of wide or capital letters) would be read as a control token."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        if self.tokenizer.normalizer is not None and any(token.normalized and token.content in self.control for token in added):
            self.tokenizer = with_flags(self.tokenizer, self.control, normalized=False)

    @cached_property
    def _turns(self) -> tuple[str, str, str]:
        """A conversation that ends with an answer, one that goes on after it, and the first with the generation prompt; empty where the
        template refuses it. Raises ModelInvalid where it refuses all."""
        rendered, refusals = list[str](), list[ModelInvalid]()
        for messages, prompted in ((_ANSWERED, False), (_CONTINUED, True), (_ANSWERED, True)):
            try:
                rendered.append(render(self.template, messages, self.special, add_generation_prompt=prompted))
            except ModelInvalid as error:
                rendered.append("")
                refusals.append(error)
        closed, continued, opened = rendered
        if len(refusals) == len(rendered):
            raise refusals[0]
        return closed, continued, opened

    def _end_of_turn(self) -> tuple[int, ...]:
        """What the template writes after an answer, up to the first token that ends it.

        That is a control token which follows wherever the conversation goes; or, where a template closes its last turn otherwise than
        earlier ones, an end token that tokenizer or configuration declare.
        """
        closed, continued, opened = map(self._after_answer, self._turns)
        always = _shared(closed, continued) if self._turns[1] else closed
        for tokens, ends in ((always, self._control_ids | self.declared), *((each, self.declared) for each in (closed, continued, opened))):
            place = next((place for place, token in enumerate(tokens) if token in ends), None)
            if place is not None:
                return tuple(tokens[: place + 1])
        raise ModelInvalid(
            "the chat template of the base model ends an assistant turn with no special token",
            "use a base model whose template closes each turn, so that answers can be learned to end",
            code="end_of_turn",
        )

    def _after_answer(self, text: str) -> list[int]:
        """Tokens between the answer and the next question, or the end, as they are read within the whole."""
        start = text.rfind(_ANSWER)
        if start < 0:
            return []
        start += len(_ANSWER)
        end = text.find(_NEXT, start)
        encoding = self.tokenizer.encode(text[:end] if end >= 0 else text, add_special_tokens=False)
        return [token for token, (first, _) in zip(encoding.ids, encoding.offsets, strict=True) if first >= start]


def _shared(one: list[int], other: list[int]) -> list[int]:
    """The tokens with which both begin."""
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _is_ordinary(name: str) -> bool:
    """True for a token that people write without meaning it: white space, or a word."""
    return not name.strip() or name.strip().isalnum()


def _read_template(folder: Path) -> str:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelInvalid(
            f"the base model in {folder.name} has no chat template",
            "use a model that was trained to chat (an instruct model)",
            code="chat_template",
        ) from error
