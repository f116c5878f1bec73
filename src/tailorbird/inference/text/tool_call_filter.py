"""Filter of tool calls in what a model writes: words pass, calls are held until the answer ends."""

from __future__ import annotations

from collections.abc import Mapping

from tailorbird.domain.prompt import ToolCall
from tailorbird.text.tool_call_parser import CallParser


class ToolCallFilter:
    """Passes what an answer says and holds back what its calls may begin with. ``marks`` are control tokens that frame calls: they give no
    text of their own elsewhere. ``calls`` are known once the answer has ended; of several ``one`` leaves the first."""

    def __init__(self, parser: CallParser, marks: Mapping[int, str], *, one: bool = False) -> None:
        self._parser, self._marks, self._one = parser, marks, one
        self._held = ""
        self._begun = self._calling = self._in_header = False
        self.calls: tuple[ToolCall, ...] = ()

    def mark(self, token: int) -> str:
        """The text of a control token that frames calls; empty for any other."""
        return self._marks.get(token, "")

    def feed(self, text: str) -> str:
        """What may be shown after ``text`` came."""
        self._held += text
        if self._calling:
            return ""
        if not self._begun and not self._begins():
            return ""
        if not self._parser.anywhere:
            shown, self._held = self._held, ""
            return self._without_marks(shown)
        place = self._held.find(self._parser.trigger)
        self._calling = place >= 0
        if place < 0:
            place = len(self._held) - _overlap(self._held, self._parser.trigger)
        shown = self._held[:place].rstrip()
        self._held = self._held[len(shown) :]
        return self._without_marks(shown)

    def _begins(self) -> bool:
        """True once the answer says something: behind its head, where it has one."""
        said = self._held.lstrip()
        head, trigger = self._parser.head, self._parser.trigger
        if said.startswith(trigger):
            self._calling = True
        elif head and said.startswith(head):
            self._begun, self._held = True, said.removeprefix(head)
        elif not any(mark.startswith(said) for mark in (head, trigger) if mark):
            self._in_header = any(map(said.startswith, self._marks.values()))
            self._calling, self._begun = self._in_header, not self._in_header
        return self._begun

    def finish(self) -> str:
        """What is left to be shown at the end of the answer: all of it where it is no call."""
        held, self._held = self._held, ""
        if self._calling:
            self.calls = self._parser.parse(held.lstrip()) or (self._parser.parse_header(held.lstrip()) if self._in_header else ())
            self.calls = self.calls[:1] if self._one else self.calls
        if self.calls:
            return ""
        held = self._without_marks(held)
        return held if self._begun else held.lstrip()

    def _without_marks(self, text: str) -> str:
        for name in self._marks.values():
            text = text.replace(name, "")
        return text


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that ``mark`` begins with."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
