"""Frames that a chat template writes around tool calls, found by asking it with a call that nobody makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, ToolCall
from tailorbird.text.chat_templates import ASKED, CALL_FORMS, CLOSED, SLOW, CallForm, RenderMode, Variables, render
from tailorbird.text.prompt_rendering import PromptPiece
from tailorbird.text.tool_calls import canonical
from tailorbird.text.turn_frames import ANSWER, NEXT, AnswerOpening

_KEY, _VALUE, _RESULT = "tailorbirdkey", "tailorbirdvalue", "tailorbirdresult"
_NAMES = ("tailorbirdtool", "tailorbirdother")
#: Calls of two functions, with arguments that are told apart.
_CALLS = tuple(
    ToolCall(id=f"call{place:05d}", name=name, arguments=canonical({_KEY: f"{_VALUE}{place}"})) for place, name in enumerate(_NAMES)
)
TOOLS = canonical(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "tailorbirdpurpose",
                "parameters": {
                    "type": "object",
                    "properties": {_KEY: {"type": "string", "description": "tailorbirdpurpose"}},
                    "required": [_KEY],
                },
            },
        }
        for name in _NAMES
    ]
)
#: What a call's turn answers, where it is rendered by itself.
QUESTION = Message(role="user", content=NEXT, tools=TOOLS)
_HINT = "use a base model whose chat template renders `tools`, or leave tools and conversations that use them out"

#: The length of the beginning that two texts share and that is made of whole tokens.
Shared = Callable[[str, str], int]


class CallPattern(NamedTuple):
    """What a template writes around the names and arguments (JSON) of calls: ``before`` the first name, between a name and its arguments
    (``within``), ``between`` arguments and the next name, and ``after`` the last arguments, the end of the turn included."""

    before: str
    within: str
    between: str
    after: str


class ToolFrames:
    """What the template writes of functions, calls and results. Raises ModelInvalid where it leaves one of them out.

    ``opening`` is how a prompt ends behind which the model chooses between an answer and a call; ``begun`` what stands before a call in the
    rendering of a question (``QUESTION``) and a turn that calls; ``head`` what an answer begins with there; ``form`` how calls are given to
    the template; ``pattern`` how calls are told from the text, None where arguments are not JSON.
    """

    def __init__(self, template: str, variables: Variables, shared: Shared) -> None:
        self._template, self._variables = template, variables
        self._asked = self._rendered((QUESTION,), ASKED)
        if _NAMES[0] not in self._asked:
            raise _refused("leaves the definitions of tools out")
        self.form, called = self._form()
        self._written = (called, self._called(_CALLS, self.form), self._with_result())
        answered = self._rendered((QUESTION, Message(role="assistant", content=ANSWER)), CLOSED)
        if ANSWER not in answered:
            raise _refused("leaves answers out where tools are offered")
        before = answered[: answered.rindex(ANSWER)]
        start = self._start(before, called, shared)
        self.begun = called[:start]
        common = _common(self._asked, self.begun)
        self.opening = AnswerOpening(self._asked[common:], self.begun[common:])
        head = before[start:]
        self.head = head if head.strip() else ""
        self._said = called[start:]
        self.pattern = self._pattern(self._said)

    def keeps(self, opening: AnswerOpening) -> None:
        """Where answers follow the generation prompt as it is (``opening``), although turns that are over lack a part of it, calls do."""
        if not opening.written and not self.opening.read:
            self.opening = AnswerOpening()

    def call_mode(self, *, prompted: bool = False) -> RenderMode:
        """How conversations with calls are rendered."""
        return RenderMode(prompted, False, self.form)

    def example(self) -> list[PromptPiece]:
        """A call from where it parts from an answer."""
        return [PromptPiece(self._said, quoted=False)]

    def framing(self) -> list[str]:
        """What is written around definitions, calls and results."""
        return [self._asked, *self._written]

    def _rendered(self, messages: Sequence[Message], mode: RenderMode) -> str:
        try:
            return render(self._template, messages, self._variables, mode)
        except ModelInvalid as error:
            if error.error_code == SLOW:
                raise
            raise _refused(f"refuses a conversation with tools ({error.message[:200]})") from error

    def _form(self) -> tuple[CallForm, str]:
        """The form in which the template reads calls, and a call as it writes it: best one whose arguments are JSON."""
        loose: tuple[CallForm, str] | None = None
        for form in CALL_FORMS:
            text = self._called(_CALLS[:1], form)
            said = text.rpartition(NEXT)[2]
            if not all(part in said for part in (_NAMES[0], _KEY, f"{_VALUE}0")) or repr(json.loads(_CALLS[0].arguments)) in said:
                continue
            if _arguments_at(said, _CALLS[0]) is not None:
                return form, text
            loose = loose or (form, text)
        if loose is None:
            raise _refused("leaves calls out")
        return loose

    def _called(self, calls: Sequence[ToolCall], form: CallForm) -> str:
        """Empty where the template refuses. Raises ModelInvalid where it takes too long: it would in every form."""
        turn = Message(role="assistant", content="", tool_calls=tuple(calls))
        try:
            return render(self._template, (QUESTION, turn), self._variables, RenderMode(False, False, form))
        except ModelInvalid as error:
            if error.error_code == SLOW:
                raise
            return ""

    def _with_result(self) -> str:
        turn = Message(role="assistant", content="", tool_calls=_CALLS[:1])
        result = Message(role="tool", content=_RESULT, tool_call_id=_CALLS[0].id)
        text = self._rendered((QUESTION, turn, result), self.call_mode(prompted=True))
        if _RESULT not in text:
            raise _refused("leaves results of tools out")
        return text

    def _start(self, before: str, called: str, shared: Shared) -> int:
        """Where call and answer part. Spaces belong to either: a tokenizer reads them with what follows."""
        length = _common(before, called)
        if length < len(before):
            length = min(length, shared(before, called))
        if before.startswith(self._asked) and called.startswith(self._asked):
            more = before[len(self._asked) : length]
            return len(self._asked) + (len(more.rstrip(" ")) if more.strip() else 0)
        return length

    def _pattern(self, said: str) -> CallPattern | None:
        """Derived from one call and from two."""
        found = _parts(said, _CALLS[:1])
        if found is None:
            return None
        [(name, start, end)] = found
        between, two = "", self._called(_CALLS, self.form)
        several = _parts(two[len(self.begun) :], _CALLS) if two.startswith(self.begun) else None
        if several is not None:
            between = two[len(self.begun) :][several[0][2] : several[1][0]]
        return CallPattern(said[:name], said[name + len(_NAMES[0]) : start], between, said[end:])


def _parts(said: str, calls: Sequence[ToolCall]) -> list[tuple[int, int, int]] | None:
    """Where the name of each call stands, and where its arguments begin and end; None where arguments are no JSON, or come first."""
    found, reached = list[tuple[int, int, int]](), 0
    for call in calls:
        name = said.find(call.name, reached)
        place = None if name < 0 else _arguments_at(said, call, name + len(call.name))
        if place is None:
            return None
        found.append((name, *place))
        reached = place[1]
    return found


def _arguments_at(said: str, call: ToolCall, start: int = 0) -> tuple[int, int] | None:
    """Where the arguments of ``call`` begin and end as a JSON object that is not itself a text of JSON."""
    wanted = json.loads(call.arguments)
    for match in re.finditer(r"\{", said[start:]):
        place = start + match.start()
        try:
            value, end = json.JSONDecoder().raw_decode(said, place)
        except ValueError:
            continue
        if value == wanted:
            return place, end
    return None


def _common(one: str, other: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _refused(what: str) -> ModelInvalid:
    return ModelInvalid(f"the chat template of the base model {what}", _HINT, code="template_tools")
