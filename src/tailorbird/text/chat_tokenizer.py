"""Chat tokenizer of a base model: conversations and answers as token ids, the same ones in training, checks, evaluation and serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tailorbird.domain.errors import Internal, ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import ASKED
from tailorbird.text.conversations import answer_turn
from tailorbird.text.prompt_rendering import PromptPiece, quoted, render_pieces
from tailorbird.text.token_reader import TokenReader, declared_ends, read_tokenizer, special_tokens, with_flags
from tailorbird.text.tool_calls import offered_tools, uses_tools
from tailorbird.text.tool_turns import ToolTurns
from tailorbird.text.turn_frames import ReasoningMarks, TurnFrames, merged


class Reading(NamedTuple):
    """Pieces of a text, and whether tools are on offer in its conversation, or were used."""

    pieces: Sequence[PromptPiece]
    uses_tools: bool


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
        self._reader = self.reader_of(self._token_of)
        self.end_of_turn = self._end_of_turn()
        self.stops = self.declared | {self.end_of_turn[-1]}

    @cached_property
    def highest_token(self) -> int:
        """The highest id that the tokenizer gives. Counted once: listing its vocabulary keeps every thread waiting."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def prompts(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """Tokens of each conversation, up to where the assistant begins to answer, or to reason."""
        return self._ids([self._prompt(messages, at_once=self.marks is None) for messages in conversations])

    def prompts_without_reasoning(self, conversations: Iterable[Sequence[Message]]) -> list[list[int]]:
        """As ``prompts``, up to where an answer begins that nothing is reasoned before."""
        return self._ids([self._prompt(messages, at_once=True) for messages in conversations])

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """What ``prompts`` reads, as text."""
        return _text(self._prompt(messages, at_once=self.marks is None))

    def text_before_answer(self, messages: Sequence[Message], reasoning: str) -> str:
        """What is read and reasoned before an answer begins, as text."""
        marks = self.marks_before(messages)
        if marks is None or not reasoning.strip():
            return _text(self._prompt(messages, at_once=True))
        return self.prompt_text(messages) + marks.begin + reasoning + marks.end

    def turns(self, messages: Sequence[Message]) -> Sequence[Message]:
        """``messages`` as the template takes them."""
        return merged(messages) if self._merges_system else messages

    @property
    def tools(self) -> ToolTurns:
        """Calls of functions, as the template writes them. Raises ModelInvalid where it does not."""
        if isinstance(self._tools, ModelInvalid):
            raise self._tools
        return self._tools

    @cached_property
    def _tools(self) -> ToolTurns | ModelInvalid:
        """A refusal is kept as well: the template is asked about ten times, and any request may offer tools."""
        try:
            return ToolTurns(self)
        except ModelInvalid as error:
            return error

    def marks_before(self, messages: Sequence[Message]) -> ReasoningMarks | None:
        """The marks of reasoning behind ``messages``: where functions are offered, the answer may be a call."""
        return self.marks and (self.tools.marks if offered_tools(messages) else self.marks)

    def _prompt(self, messages: Sequence[Message], *, at_once: bool) -> Reading:
        turns, uses = self.turns(messages), uses_tools(messages)
        control, mode = (self.tools.control, self.tools.mode) if uses else (self.control, ASKED)
        pieces = render_pieces(self.template, turns, self.variables, control, mode)
        if at_once and pieces and not pieces[-1].quoted:
            opening = self.tools.opening if offered_tools(messages) else self.opening
            pieces[-1] = PromptPiece(opening.of(pieces[-1].text), quoted=False)
        return Reading(pieces, uses)

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as an assistant's whole answer, the end of the turn included."""
        bare = self._reader.ids([[PromptPiece(text, quoted(text, self.control))] for text in texts])
        return [[*ids, *self.end_of_turn] for ids in bare]

    def answers_to(self, conversations: Sequence[Sequence[Message]], texts: Sequence[tuple[str, str]]) -> list[list[int]]:
        """Tokens of each (reasoning, answer) as the model is to write it behind its conversation, the end of the turn included. Where
        functions are offered, an answer may be calls (``fold_answer``). Reasoning is read with ``thinking`` alone."""
        ids = self._ids([self._answer(messages, *text) for messages, text in zip(conversations, texts, strict=True)])
        return [
            self.tools.until_end(each) if offered_tools(messages) and answer_turn(answer).tool_calls else [*each, *self.end_of_turn]
            for each, messages, (_, answer) in zip(ids, conversations, texts, strict=True)
        ]

    def answer_text(self, messages: Sequence[Message], answer: str) -> str:
        """What ``answers_to`` reads of an answer, as text; of a call as far as the template writes it."""
        return _text(self._answer(messages, "", answer))

    def reasoning_begun(self) -> list[int]:
        """Tokens with which the model begins to reason behind a prompt that has not begun it; none without reasoning."""
        begin = self.marks.begin.strip() if self.marks else ""
        return self._reader.ids([[PromptPiece(begin, quoted=False)]])[0] if begin else []

    def _answer(self, messages: Sequence[Message], reasoning: str, answer: str) -> Reading:
        """One piece where it can be: a tokenizer reads words together that stand together."""
        offers = bool(offered_tools(messages))
        said = self.tools.answer(answer) if offers else [PromptPiece(answer, quoted(answer, self.control))]
        if reasoning:
            marks = self.marks_before(messages)
            if marks is None:
                raise Internal("reasoning is read with thinking alone", "report this", code="thinking_off")
            thought = PromptPiece(reasoning, quoted(reasoning, self.tools.control if offers else self.control))
            said = [PromptPiece(marks.begin, quoted=False), thought, PromptPiece(marks.end, quoted=False), *said]
        said = [piece for piece in said if piece.text]
        if len(said) > 1 and not any(piece.quoted for piece in said):
            said = [PromptPiece("".join(piece.text for piece in said), quoted=False)]
        return Reading(said, offers)

    def is_empty(self, answer: Sequence[int]) -> bool:
        """True for the tokens of an answer that says nothing before its end."""
        return len(answer) <= len(self.end_of_turn)

    def is_control(self, token: int) -> bool:
        """True for a token that steers the model."""
        return token in self._control_ids

    def _ids(self, texts: Sequence[Reading]) -> list[list[int]]:
        found: dict[bool, Iterator[list[int]]] = {}
        for uses in (False, True):
            pieces = [reading.pieces for reading in texts if reading.uses_tools == uses]
            found[uses] = iter((self.tools.reader if uses else self._reader).ids(pieces)) if pieces else iter(())
        return [next(found[reading.uses_tools]) for reading in texts]

    def reader_of(self, token_of: Mapping[str, int]) -> TokenReader:
        """A reader to which these are the control tokens."""
        return TokenReader(self.tokenizer, token_of, (self.special.get("unk_token"),))

    def framing_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        """The control tokens, and further added tokens that ``texts``, which a template wrote, hold."""
        held = {token for text in texts for token in self.tokenizer.encode(text, add_special_tokens=False).ids}
        added = self.tokenizer.get_added_tokens_decoder().items()
        return self._token_of | {token.content: number for number, token in added if number in held and not _is_ordinary(token.content)}

    def shared_length(self, one: str, other: str) -> int:
        """Characters at the beginning of ``one`` that are the same tokens as those of ``other``."""
        mine, theirs = (self.tokenizer.encode(text, add_special_tokens=False) for text in (one, other))
        same = len(_shared(mine.ids, theirs.ids))
        return mine.offsets[same - 1][1] if same else 0

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
            "name a template that closes each turn by a token of this tokenizer: `chat_template: plain`",
            code="end_of_turn",
        )

    def _after_answer(self, text: str, start: int) -> list[int]:
        """Tokens of ``text`` from ``start`` on, as they are read within the whole."""
        if not start:
            return []
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return [token for token, (first, _) in zip(encoding.ids, encoding.offsets, strict=True) if first >= start]


def _text(reading: Reading) -> str:
    return "".join(piece.text for piece in reading.pieces)


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
