"""Parser of tool calls in what a model writes, by the frames of its chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from tailorbird.domain.prompt import ToolCall
from tailorbird.text.tool_calls import MOST_CALLS, ToolFault, arguments_text
from tailorbird.text.tool_frames import CallPattern

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
#: Between these JSON may be spaced in any way.
_MARKS = re.compile(r"\s+|([{}\[\],:])")
#: White space of any length, read once: what a model writes may hold a hundred thousand.
_SPACE = r"\s*+"
#: The number that a call has in a rendering, alone or behind the name.
_ID = re.compile(r"call\d{5}|^:\d+")


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

    def parse_header(self, text: str) -> tuple[ToolCall, ...]:
        """The call of an answer that begins with a control token, in another order than the template writes it (gpt-oss names the channel
        before the recipient): one function on offer is named before the arguments, and nothing follows them. None where it is otherwise."""
        place = text.find("{")
        named = [name for name in self._names if place > 0 and re.search(rf"(?<![\w/-]){re.escape(name)}(?![\w.:/-])", text[:place])]
        named = [name for name in named if not any(name != other and name in other for other in named)]
        if len(named) != 1:
            return ()
        try:
            value, end = json.JSONDecoder().raw_decode(text, place)
            if not isinstance(value, dict) or text[end:].strip():
                return ()
            return (ToolCall(id="call00000", name=named[0], arguments=arguments_text(value)),)
        except (ToolFault, ValueError, RecursionError):
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
