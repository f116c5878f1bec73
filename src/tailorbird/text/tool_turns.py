"""Turns that call functions, as pieces to read: by the frames that a chat template writes around calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.conversations import answer_turn
from tailorbird.text.prompt_rendering import PromptPiece, quoted, render_pieces
from tailorbird.text.token_reader import TokenReader
from tailorbird.text.tool_call_parser import CallParser
from tailorbird.text.tool_calls import tool_names
from tailorbird.text.tool_frames import QUESTION, ToolFrames
from tailorbird.text.turn_frames import AnswerOpening, ReasoningMarks


def _schema(function: dict[str, Any]) -> str:
    return json.dumps(function.get("parameters") or {"type": "object"}, ensure_ascii=False)


class _Chat(Protocol):
    """The chat tokenizer, as far as calls need it."""

    template: str
    variables: dict[str, str | bool]
    opening: AnswerOpening
    marks: ReasoningMarks | None
    stops: frozenset[int]
    tokenizer: Tokenizer

    def reader_of(self, token_of: Mapping[str, int]) -> TokenReader: ...
    def framing_tokens(self, texts: Sequence[str]) -> dict[str, int]: ...
    def shared_length(self, one: str, other: str) -> int: ...


class ToolTurns:
    """Calls of one chat tokenizer. ``opening`` ends a prompt behind which call and answer part; ``control`` are the control tokens of
    conversations with tools: those that frame calls and results, too. Raises ModelInvalid where the template does not write tools."""

    def __init__(self, chat: _Chat) -> None:
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
                code="template_tools",
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
            code="template_tools",
        )

    def until_end(self, ids: Sequence[int]) -> list[int]:
        """The tokens of a turn that calls, to the first at which generation stops. Raises ModelInvalid where there is none."""
        end = next((place for place, token in enumerate(ids) if token in self._stops), None)
        if end is None:
            raise ModelInvalid(
                "the chat template of the base model ends a turn that calls functions with no token at which generation stops",
                "add that token to eos_token_id in generation_config.json, or use another base model for conversations with tools",
                code="template_tools",
            )
        return list(ids[: end + 1])
