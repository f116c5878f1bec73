"""Frames that a chat template writes around turns, found by asking it: where an answer begins and ends, and where instructions stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import ASKED, CLOSED, SLOW, RenderMode, Variables, render
from tailorbird.text.tool_calls import offered_tools

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
        common = _common(self.asked, given)
        if NEXT not in common:
            return AnswerOpening()
        header = _common(common, earlier or common)
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


def _common(one: str, other: str) -> str:
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _after(text: str) -> tuple[str, int]:
    start = text.rfind(ANSWER)
    if start < 0:
        return "", 0
    start += len(ANSWER)
    end = text.find(NEXT, start)
    return (text[:end] if end >= 0 else text), start
