"""Chat tokenizer of a base model: conversations and answers as token ids, the same ones in training, checks, evaluation and serving."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from tailorbird.chat.conversations import answer_turn
from tailorbird.chat.frames import QUESTION, CallParser, ReasoningMarks, ToolFrames, TurnFrames, merged, shared
from tailorbird.chat.prompts import PromptPiece, quoted, render_pieces
from tailorbird.chat.templates import ASKED
from tailorbird.chat.tool_calls import offered_tools, tool_names, uses_tools
from tailorbird.domain.errors import Internal, ModelInvalid
from tailorbird.domain.prompt import Message

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
            code="model_unreadable",
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
        """Token ids of each text, given in pieces. Each piece is read once, and all together: a text can have a hundred thousand."""
        read = list[dict[str, list[int]]]()
        for literally, reader in ((False, self._read), (True, self._read_literally)):
            wanted = list(dict.fromkeys(piece.text for pieces in texts for piece in pieces if piece.quoted == literally))
            read.append(dict(zip(wanted, reader(wanted), strict=True)) if wanted else {})
        return [[token for piece in pieces for token in read[piece.quoted][piece.text]] for pieces in texts]

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
        return [
            ids
            if self._forgeable.isdisjoint(ids)
            else [token for letter in self._literal.encode_batch_fast(list(text), add_special_tokens=False) for token in letter.ids]
            for text, ids in zip(texts, found, strict=True)
        ]

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
        try:
            self.template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelInvalid(
                f"the base model in {folder.name} has no chat template",
                "use a model that was trained to chat (an instruct model)",
                code="chat_template",
            ) from error
        self.special = special_tokens(folder)
        self.switches = dict.fromkeys(_SWITCHES, thinking)
        self.variables: dict[str, str | bool] = {**self.special, **self.switches}
        begun: dict[str, str | bool] | None = None if thinking else {**self.special, **dict.fromkeys(_SWITCHES, True)}
        self._frames = TurnFrames(self.template, self.variables, begun)
        self.opening, self._merges_system = self._frames.opening, self._frames.merges_system
        self.marks = self._frames.reasoning() if thinking else None
        self.declared = frozenset(token for token in self._declared_in(folder) if self.tokenizer.id_to_token(token) is not None)
        # Special tokens, and added tokens that are not marked as special although they end answers or frame the turns of the
        # template.
        framing = {token for text in self._frames.framing() for token in self.tokenizer.encode(text, add_special_tokens=False).ids}
        added = self.tokenizer.get_added_tokens_decoder().items()
        self._token_of = {
            token.content: number
            for number, token in added
            if token.special or number in self.declared or (number in framing and not _is_ordinary(token.content))
        }
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

    def reasoning_begun(self) -> list[int]:
        """Tokens with which the model begins to reason behind a prompt that has not begun it; none without reasoning."""
        begin = self.marks.begin.strip() if self.marks else ""
        return self._reader.ids([[PromptPiece(begin, quoted=False)]])[0] if begin else []

    def _answer(self, messages: Sequence[Message], reasoning: str, answer: str) -> Reading:
        """One piece where it can be: a tokenizer reads words together that stand together."""
        offers = bool(offered_tools(messages))
        said = self.tools.answer(answer) if offers else [PromptPiece(answer, quoted(answer, self.control))]
        if reasoning:
            marks = self.marks and (self.tools.marks if offered_tools(messages) else self.marks)
            if marks is None:
                raise Internal("reasoning is read with thinking alone", "report this")
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
        same = shared(mine.ids, theirs.ids)
        return mine.offsets[same - 1][1] if same else 0

    def _declared_in(self, folder: Path) -> set[int]:
        end = self.tokenizer.token_to_id(self.special.get("eos_token", ""))
        return declared_ends(folder) | ({end} if end is not None else set())

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
        always = closed[: shared(closed, continued)] if self._frames.continued else closed
        for tokens, ends in ((always, self._control_ids | self.declared), *((each, self.declared) for each in (closed, continued, opened))):
            place = next((place for place, token in enumerate(tokens) if token in ends), None)
            if place is not None:
                return tuple(tokens[: place + 1])
        raise ModelInvalid(
            "the chat template of the base model ends an assistant turn with no special token",
            "name a template that closes each turn by a token of this tokenizer: `chat_template: plain`",
            code="chat_template",
        )

    def _after_answer(self, text: str, start: int) -> list[int]:
        """Tokens of ``text`` from ``start`` on, as they are read within the whole."""
        if not start:
            return []
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return [token for token, (first, _) in zip(encoding.ids, encoding.offsets, strict=True) if first >= start]


def _schema(function: dict[str, Any]) -> str:
    return json.dumps(function.get("parameters") or {"type": "object"}, ensure_ascii=False)


class ToolTurns:
    """Calls of one chat tokenizer. ``opening`` ends a prompt behind which call and answer part; ``control`` are the control tokens of
    conversations with tools: those that frame calls and results, too. Raises ModelInvalid where the template does not write tools."""

    def __init__(self, chat: ChatTokenizer) -> None:
        self._template, self._variables = chat.template, chat.variables
        self.frames = ToolFrames(chat.template, chat.variables, chat.shared_length)
        self.frames.keeps(chat.opening)
        self.opening, self.mode, self._closed = self.frames.opening, self.frames.call_mode(prompted=True), self.frames.call_mode()
        framing = chat.framing_tokens(self.frames.framing())
        self.reader = chat.reader_of(framing)
        written = "".join((*(self.frames.pattern or ()), self.frames.head))
        self._ends = [name for token in chat.stops if (name := chat.tokenizer.id_to_token(token))]
        #: Control tokens around calls, by their ids.
        self.call_marks = {token: name for name, token in framing.items() if name in written and token not in chat.stops}
        self.control = self.reader.control
        self._stops = chat.stops
        self.marks = self._marks(chat.marks)
        self.until_end(self.reader.ids([self.frames.example()])[0])

    def parser(self, tools: str) -> CallParser | None:
        """What finds calls of ``tools`` in an answer; None where the template's calls cannot be told from the text."""
        if self.frames.pattern is None:
            return None
        return CallParser(self.frames.pattern, self.frames.head, tool_names(tools), self._ends)

    def grammar(self, tools: str, choice: str) -> str | None:
        """A grammar (Lark, as llguidance reads it) of one call of ``tools``, or of the one that is the ``choice``; None where calls cannot
        be told from the text."""
        if self.frames.pattern is None:
            return None
        before, within, _, after = self.frames.pattern
        for end in self._ends:
            after = after.partition(end)[0]
        functions = [tool["function"] for tool in json.loads(tools) if choice in ("required", tool["function"]["name"])]
        rules = [f"call{place}: {json.dumps(each['name'])} within %json {_schema(each)}" for place, each in enumerate(functions)]
        named = " | ".join(f"call{place}" for place in range(len(functions)))
        framed = (f"within: {self._literal(within)}", f"start: {self._literal(before)} ({named}) {self._literal(after.rstrip())}")
        return "\n".join([*framed, *rules])

    def _literal(self, text: str) -> str:
        """``text`` in a grammar: control tokens by their ids, as llguidance knows all added tokens."""
        token_of = {name: token for token, name in self.call_marks.items()}
        parts = re.split("(" + "|".join(map(re.escape, token_of)) + ")", text) if token_of else [text]
        return (
            " ".join(f"<[{token_of[part]}]>" if part in token_of else json.dumps(part, ensure_ascii=False) for part in parts if part)
            or '""'
        )

    def _marks(self, marks: ReasoningMarks | None) -> ReasoningMarks | None:
        """Marks of reasoning that a call may follow, too: what an answer alone begins with is no part of them."""
        if marks is None:
            return None
        if self.frames.head and not marks.end.endswith(self.frames.head):
            raise ModelInvalid(
                "the chat template of the base model writes reasoning otherwise before a call than before an answer",
                "set `thinking: off`, or use another base model for conversations with tools",
                code="chat_template",
            )
        return marks._replace(end=marks.end.removesuffix(self.frames.head), none=self.opening.read)

    def answer(self, answer: str) -> list[PromptPiece]:
        """An answer behind ``opening``, or the calls that it stands for."""
        turn = answer_turn(answer)
        if turn.tool_calls:
            return self._call(turn)
        return [PromptPiece(self.frames.head, quoted=False), PromptPiece(answer, quoted(answer, self.control))]

    def _call(self, turn: Message) -> list[PromptPiece]:
        """What the template writes for the turn, from where it parts from an answer, by itself: it is the same behind every question."""
        for tried in (turn, turn.model_copy(update={"content": ""})):
            pieces = render_pieces(self._template, (QUESTION, tried), self._variables, self.control, self._closed)
            if pieces and not pieces[0].quoted and pieces[0].text.startswith(self.frames.begun):
                return [PromptPiece(pieces[0].text[len(self.frames.begun) :], quoted=False), *pieces[1:]]
        raise ModelInvalid(
            "the chat template of the base model writes a call otherwise than another one",
            "use another base model for conversations with tools",
            code="chat_template",
        )

    def until_end(self, ids: Sequence[int]) -> list[int]:
        """The tokens of a turn that calls, to the first at which generation stops. Raises ModelInvalid where there is none."""
        end = next((place for place, token in enumerate(ids) if token in self._stops), None)
        if end is None:
            raise ModelInvalid(
                "the chat template of the base model ends a turn that calls functions with no token at which generation stops",
                "add that token to eos_token_id in generation_config.json, or use another base model for conversations with tools",
                code="chat_template",
            )
        return list(ids[: end + 1])


def _text(reading: Reading) -> str:
    return "".join(piece.text for piece in reading.pieces)


def _is_ordinary(name: str) -> bool:
    """True for a token that people write without meaning it: white space, or a word."""
    return not name.strip() or name.strip().isalnum()
