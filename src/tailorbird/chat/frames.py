"""Frames that a chat template writes around turns and tool calls, found by rendering probes; and the parser of calls by these frames."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tailorbird.chat.prompts import PromptPiece
from tailorbird.chat.templates import ASKED, CALL_FORMS, CLOSED, SLOW, CallForm, RenderMode, Variables, render
from tailorbird.chat.tool_calls import MOST_CALLS, ToolFault, arguments_text, canonical, offered_tools
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, ToolCall

#: Stand for an answer, for the question before and after it, for an instruction and for reasoning, while the template is asked what it
#: writes around them.
ANSWER, NEXT, _RULE, _THOUGHT = "tailorbirdanswer", "tailorbirdquestion", "tailorbirdrule", "tailorbirdthought"
#: Blocks of reasoning: the one that most models write first.
_BLOCKS = (
    ("<think>\n", "\n</think>\n\n"),
    ("<|channel>thought\n", "\n<channel|>"),
    ("[THINK]", "[/THINK]"),
    ("<thought>\n", "\n</thought>\n\n"),
)
_QUESTION = Message(role="user", content=NEXT)
_ANSWERED = (_QUESTION, Message(role="assistant", content=ANSWER))
_INSTRUCTED = (Message(role="system", content=_RULE), _QUESTION)


class AnswerOpening(NamedTuple):
    """How the prompt ends that an answer follows: ``written`` by the template's generation prompt, ``read`` in its stead. ``undecided`` is
    what the generation prompt writes beyond the header of an assistant's turn that is over: marks of reasoning, begun or left empty."""

    written: str = ""
    read: str = ""
    undecided: str = ""

    def of(self, prompt: str) -> str:
        """``prompt`` as it is read."""
        if not self.written:
            return prompt if prompt.endswith(self.read) else prompt + self.read
        return prompt.removesuffix(self.written) + self.read if prompt.endswith(self.written) else prompt


class ReasoningMarks(NamedTuple):
    """What stands around reasoning, behind a prompt: ``begin`` before it, ``end`` between it and the answer. ``none`` comes in its stead
    where an answer follows at once."""

    begin: str
    end: str
    none: str

    def begun(self) -> ReasoningMarks:
        """Those behind a prompt that has begun the reasoning."""
        return self._replace(begin="")


class TurnFrames:
    """What a template writes around turns. ``thinking`` are the variables with which it begins to reason, where ``variables`` are those
    with which it does not. Raises ModelInvalid where it refuses a question and its answer in every way, or takes too long for one."""

    def __init__(self, template: str, variables: Variables, thinking: Variables | None = None) -> None:
        self._template, self._variables = template, variables
        continued = (*_ANSWERED, _QUESTION)
        refusals = list[ModelInvalid]()
        asks = ((_ANSWERED, CLOSED), (continued, ASKED), (_ANSWERED, ASKED), ((_QUESTION,), ASKED), (_INSTRUCTED, ASKED))
        texts = [self._rendered(messages, mode, refusals) for messages, mode in asks]
        self.closed, self.continued, self.prompted, self.asked, self.instructed = texts
        if not any(texts[:3]) and refusals:
            raise refusals[0]
        self._begun = None if thinking is None else self._rendered((_QUESTION,), ASKED, [], thinking)

    def _rendered(
        self, messages: Sequence[Message], mode: RenderMode, refusals: list[ModelInvalid], variables: Variables | None = None
    ) -> str:
        """Empty where the template refuses the conversation. Raises ModelInvalid where it takes too long: it would every time."""
        try:
            return render(self._template, messages, self._variables if variables is None else variables, mode)
        except ModelInvalid as error:
            if error.error_code == SLOW:
                raise
            refusals.append(error)
            return ""

    @property
    def merges_system(self) -> bool:
        """True where the template knows no system turn, or leaves out what it says: instructions must stand in the question."""
        return bool(self.asked) and _RULE not in self.instructed

    @property
    def opening(self) -> AnswerOpening:
        """How answers begin. Spaces alone tell nothing: a tokenizer reads them with the answer. What a template writes only where reasoning
        is switched off stays, even if it writes no such thing in turns that are over."""
        given, earlier = self._before_answer(self.closed), self._before_answer(self.continued)
        if not self.asked or given is None:
            return AnswerOpening()
        common = self.asked[: shared(self.asked, given)]
        if NEXT not in common:
            return AnswerOpening()
        header = common[: shared(common, earlier or common)]
        header = header if NEXT in header else common
        written, read, undecided = self.asked[len(common) :], given[len(common) :], self.asked[len(header) :]
        switched = bool(written) and self._begun is not None and not self._begun.endswith(written)
        if switched or not (written + read).strip(" "):
            return AnswerOpening(undecided=undecided)
        return AnswerOpening(written, read, undecided)

    def reasoning(self) -> ReasoningMarks:
        """What the template writes around reasoning that is given apart from the answer; else the marks of a block before the answer that
        it takes out; else of one that it names; else those that most models write. The prompt may have begun the block."""
        apart = Message(role="assistant", content=ANSWER, reasoning=_THOUGHT)
        before, thought, after = self._rendered((_QUESTION, apart), CLOSED, []).partition(_THOUGHT)
        if thought and ANSWER in after and before.startswith(self.asked):
            return ReasoningMarks(before.removeprefix(self.asked), after[: after.index(ANSWER)], self.opening.read)
        named = next((block for block in _BLOCKS if block[0].strip() in self._template), _BLOCKS[0])
        begin, end = next(filter(self._takes_out, _BLOCKS), named)
        begun = self.asked.rstrip().endswith(begin.strip())
        return ReasoningMarks("" if begun else begin, end, self.opening.read)

    def _takes_out(self, block: tuple[str, str]) -> bool:
        within = Message(role="assistant", content=_THOUGHT.join(block) + ANSWER)
        text = self._rendered((_QUESTION, within), CLOSED, [])
        return ANSWER in text and _THOUGHT not in text

    def after_answers(self) -> list[tuple[str, int]]:
        """Each text with an answer, up to the next question, and the place at which the answer ends; the one that ends with it first, then
        the one that goes on, then the one with a generation prompt. (empty, 0) where the template refuses."""
        return [_after(text) for text in (self.closed, self.continued, self.prompted)]

    def framing(self) -> list[str]:
        """What is written around the turns of system, user and assistant, less what a generation prompt writes of reasoning, whose marks
        are the model's own to write."""
        tails = [text.rpartition(ANSWER)[2] for text in (self.closed, self.continued, self.prompted) if ANSWER in text]
        undecided = self.opening.undecided
        return [text.removesuffix(undecided) for text in (*tails, self.asked, self.instructed) if text]

    def _before_answer(self, text: str) -> str | None:
        return text[: text.index(ANSWER)] if ANSWER in text else None


def merged(messages: Sequence[Message]) -> list[Message]:
    """The conversation with what its system turns say before the first question."""
    rules = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    first = next((place for place, message in enumerate(rest) if message.role == "user"), None)
    if not rules or first is None:
        return list(messages)
    rest[first] = Message(role="user", content="\n\n".join([*rules, rest[first].content]), tools=offered_tools(messages))
    return rest


def shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many characters, or tokens, both begin with."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _after(text: str) -> tuple[str, int]:
    start = text.rfind(ANSWER)
    if start < 0:
        return "", 0
    start += len(ANSWER)
    end = text.find(NEXT, start)
    return (text[:end] if end >= 0 else text), start


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

    def __init__(self, template: str, variables: Variables, whole: Shared) -> None:
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
        start = self._start(before, called, whole)
        self.begun = called[:start]
        common = shared(self._asked, self.begun)
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
        return RenderMode(prompted, self.form)

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
            return render(self._template, (QUESTION, turn), self._variables, RenderMode(False, form))
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

    def _start(self, before: str, called: str, whole: Shared) -> int:
        """Where call and answer part. Spaces belong to either: a tokenizer reads them with what follows."""
        length = shared(before, called)
        if length < len(before):
            length = min(length, whole(before, called))
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


def _refused(what: str) -> ModelInvalid:
    return ModelInvalid(f"the chat template of the base model {what}", _HINT, code="chat_template")


_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
#: Between these JSON may be spaced in any way.
_MARKS = re.compile(r"\s+|([{}\[\],:])")
#: White space of any length, read once: what a model writes may hold a hundred thousand.
_SPACE = r"\s*+"
#: The number that a call has in a rendering.
_ID = re.compile(r"call\d{5}")


class CallParser:
    """Finds calls of the functions ``names`` by ``pattern``; ``ends`` are the names of the tokens that end a turn.

    ``trigger`` is what calls begin with: a mark, or the JSON itself. ``anywhere``: they may follow words. ``head`` is what an answer begins
    with where calls begin otherwise.
    """

    def __init__(self, pattern: CallPattern, head: str, names: Iterable[str], ends: Iterable[str]) -> None:
        after = pattern.after
        for end in ends:
            after = after.partition(end)[0]
        self.head, self._names = head.strip(), frozenset(names)
        self._before, self._within, self._between, self._after = map(_loose, (pattern.before, pattern.within, pattern.between, after))
        self._repeats = bool(pattern.between.strip())
        begun = re.match(r"[^\s{]+", pattern.before.lstrip())
        self.trigger = begun[0] if begun else "{"
        self.anywhere = not self.head and self.trigger not in ("{", "[")

    def parse(self, text: str) -> tuple[ToolCall, ...]:
        """The calls that ``text`` is; none where it is something else, or calls what is not on offer."""
        place = self._after_literal(self._before, text, 0)
        calls = list[ToolCall]()
        while place is not None and len(calls) < MOST_CALLS:
            found = self._call(text, place)
            if found is None:
                return ()
            call, end = found
            calls.append(call.model_copy(update={"id": f"call{len(calls):05d}"}))
            place = self._after_literal(self._between, text, end) if self._repeats else None
            if place is None or self._call(text, place) is None:
                rest = text[end:]
                return tuple(calls) if not rest.strip() or re.fullmatch(rf"(?:{self._after.pattern})\s*", rest) else ()
        return ()

    def _call(self, text: str, place: int) -> tuple[ToolCall, int] | None:
        """The call whose name begins at ``place``, and where its arguments end."""
        longest = _NAME.match(text, place)
        named = [] if longest is None else [name for name in self._names if longest[0].startswith(name)]
        for name in sorted(named, key=len, reverse=True):
            start = self._after_literal(self._within, text, place + len(name))
            if start is None:
                continue
            try:
                value, end = json.JSONDecoder().raw_decode(text, _after_blank(text, start))
                return ToolCall(name=name, arguments=arguments_text(value if isinstance(value, dict) else "[]")), end
            except (ToolFault, ValueError, RecursionError):
                return None
        return None

    def _after_literal(self, literal: re.Pattern[str], text: str, place: int) -> int | None:
        found = literal.match(text, place)
        return None if found is None else found.end()


def _after_blank(text: str, place: int) -> int:
    found = re.compile(_SPACE).match(text, place)
    return found.end() if found else place


def _loose(literal: str) -> re.Pattern[str]:
    """What a template wrote, with JSON spaced in any way, and any number of a call."""
    parts, reached = list[str](), 0
    for number in _ID.finditer(literal):
        parts += [_spaced(literal[reached : number.start()]), r":?\w{1,64}"]
        reached = number.end()
    joined = rf"{_SPACE}{''.join([*parts, _spaced(literal[reached:])])}"
    return re.compile(re.sub(rf"(?:{re.escape(_SPACE)})+", lambda _: _SPACE, joined))


def _spaced(literal: str) -> str:
    escaped = _MARKS.sub(lambda found: "\0" if found[1] is None else f"\0{found[1]}\0", literal)
    return _SPACE.join(re.escape(part) for part in re.split("\0+", escaped))
