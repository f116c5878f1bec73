"""Chat tokenizer of a base model: conversations and answers as token ids, the same ones in training, checks, evaluation and serving."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tailorbird.domain.errors import Internal, ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.prompt_rendering import PromptPiece, quoted, render_pieces, token_ids
from tailorbird.text.tokenizer_files import declared_ends, read_tokenizer, special_tokens, with_flags
from tailorbird.text.turn_frames import TurnFrames, merged

#: Switches of reasoning, by the names that templates know them by.
_SWITCHES = ("enable_thinking", "thinking")


class ChatTokenizer:
    """The tokenizer and chat template of the base model in ``folder``. Safe to share between threads.

    ``special`` are the named special tokens that templates may write. ``control`` are the tokens that steer the model where the template
    writes them and are text where a message does. ``end_of_turn`` are the tokens that end every answer; ``declared`` the end tokens that
    tokenizer and configuration name; ``stops`` all at which generation ends.

    A prompt ends where the template has an answer begin (``opening``): an empty block of reasoning, or the name of the channel for answers,
    is read and not written. With ``thinking`` it ends with the generation prompt, and the model writes its reasoning first, between
    ``marks``. Where the template knows no system turn, the first question begins with what it says.

    Raises ModelInvalid when tokenizer or template is missing or unusable, or the template does not end an assistant turn.
    """

    def __init__(self, folder: Path, *, thinking: bool = False) -> None:
        self.tokenizer = read_tokenizer(folder)
        self.template = _read_template(folder)
        self.special = special_tokens(folder)
        self.switches = dict.fromkeys(_SWITCHES, thinking)
        self.variables: dict[str, str | bool] = {**self.special, **self.switches}
        begun: dict[str, str | bool] | None = None if thinking else {**self.special, **dict.fromkeys(_SWITCHES, True)}
        self._frames = TurnFrames(self.template, self.variables, begun)
        self.opening, self._merges_system = self._frames.opening, self._frames.merges_system
        self.marks = self._frames.reasoning() if thinking else None
        self.declared = frozenset(token for token in self._declared_in(folder) if self.tokenizer.id_to_token(token) is not None)
        self._token_of = self._control_tokens()
        self.control, self._control_ids = tuple(self._token_of), frozenset(self._token_of.values())
        self._match_control_tokens_as_written()
        self.end_of_turn = self._end_of_turn()
        self.stops = self.declared | {self.end_of_turn[-1]}

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """Tokens of each conversation, up to where the assistant begins to answer, or to reason."""
        return self._ids([self._pieces(messages, at_once=self.marks is None) for messages in conversations])

    def prompts_without_reasoning(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """As ``prompts``, up to where an answer begins that nothing is reasoned before."""
        return self._ids([self._pieces(messages, at_once=True) for messages in conversations])

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """What ``prompts`` reads, as text."""
        return "".join(piece.text for piece in self._pieces(messages, at_once=self.marks is None))

    def text_before_answer(self, messages: Sequence[Message], reasoning: str) -> str:
        """What is read and reasoned before an answer begins, as text."""
        if self.marks is None or not reasoning.strip():
            return "".join(piece.text for piece in self._pieces(messages, at_once=True))
        return self.prompt_text(messages) + self.marks.begin + reasoning + self.marks.end

    def turns(self, messages: Sequence[Message]) -> Sequence[Message]:
        """``messages`` as the template takes them."""
        return merged(messages) if self._merges_system else messages

    def _pieces(self, messages: Sequence[Message], *, at_once: bool) -> list[PromptPiece]:
        pieces = render_pieces(self.template, self.turns(messages), self.variables, self.control)
        if at_once and pieces and not pieces[-1].quoted:
            pieces[-1] = PromptPiece(self.opening.of(pieces[-1].text), quoted=False)
        return pieces

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as an assistant's whole answer, the end of the turn included."""
        bare = self._ids([[PromptPiece(text, quoted(text, self.control))] for text in texts])
        return [[*ids, *self.end_of_turn] for ids in bare]

    def reasoned_answers(self, texts: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Tokens of each reasoning with its answer, as the model is to write them behind a prompt, the end of the turn included."""
        bare = self._ids([self._reasoned(*text) for text in texts])
        return [[*ids, *self.end_of_turn] for ids in bare]

    def reasoning_begun(self) -> list[int]:
        """Tokens with which the model begins to reason behind a prompt that has not begun it; none without reasoning."""
        begin = self.marks.begin.strip() if self.marks else ""
        return self._ids([[PromptPiece(begin, quoted=False)]])[0] if begin else []

    def _reasoned(self, reasoning: str, answer: str) -> list[PromptPiece]:
        """One piece where it can be: a tokenizer reads words together that stand together."""
        if self.marks is None:
            raise Internal("reasoning is read with thinking alone", "report this", code="thinking_off")
        parts = ((self.marks.begin, False), (reasoning, True), (self.marks.end, False), (answer, True))
        pieces = [PromptPiece(text, own and quoted(text, self.control)) for text, own in parts if text]
        if any(piece.quoted for piece in pieces):
            return pieces
        return [PromptPiece("".join(piece.text for piece in pieces), quoted=False)]

    def is_empty(self, answer: Sequence[int]) -> bool:
        """True for the tokens of an answer that says nothing before its end."""
        return len(answer) <= len(self.end_of_turn)

    def is_control(self, token: int) -> bool:
        """True for a token that steers the model."""
        return token in self._control_ids

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
        framing = {token for text in self._frames.framing() for token in self.tokenizer.encode(text, add_special_tokens=False).ids}
        added = self.tokenizer.get_added_tokens_decoder().items()
        return {
            token.content: number
            for number, token in added
            if token.special or number in self.declared or (number in framing and not _is_ordinary(token.content))
        }

    def _match_control_tokens_as_written(self) -> None:
        """Where texts are normalised first, another spelling (of wide or capital letters) would be read as a control token."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        if self.tokenizer.normalizer is not None and any(token.normalized and token.content in self.control for token in added):
            self.tokenizer = with_flags(self.tokenizer, self.control, normalized=False)

    def _end_of_turn(self) -> tuple[int, ...]:
        """What the template writes after an answer, up to the first token that ends it.

        That is a control token which follows wherever the conversation goes; or, where a template closes its last turn otherwise than
        earlier ones, an end token that tokenizer or configuration declare.
        """
        closed, continued, opened = (self._after_answer(text, start) for text, start in self._frames.after_answers())
        always = _shared(closed, continued) if self._frames.continued else closed
        for tokens, ends in ((always, self._control_ids | self.declared), *((each, self.declared) for each in (closed, continued, opened))):
            place = next((place for place, token in enumerate(tokens) if token in ends), None)
            if place is not None:
                return tuple(tokens[: place + 1])
        raise ModelInvalid(
            "the chat template of the base model ends an assistant turn with no special token",
            "use a base model whose template closes each turn, so that answers can be learned to end",
            code="end_of_turn",
        )

    def _after_answer(self, text: str, start: int) -> list[int]:
        """Tokens of ``text`` from ``start`` on, as they are read within the whole."""
        if not start:
            return []
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
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
