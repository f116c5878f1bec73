"""Safety check of a foreign tokenizer's patterns before long texts reach it.

Its patterns are matched by an engine that goes back and tries again (Oniguruma), within the process that trains or serves. So one that
repeats what can itself match in several ways, has many ways side by side, refers back or calls itself is refused; none of those in use
(GPT-2, Llama 3, Qwen, DeepSeek, o200k) does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import render_here
from tailorbird.text.token_reader import read_tokenizer, special_tokens

#: Characters of a pattern; groups within groups; ways in which it may match at one place of a text; repetitions without bound (or of more
#: than so many times) that may follow one another: two take time in the square of what they match.
_LONGEST, _MOST_DEPTH, _MOST_WAYS, _MOST_WIDE, _WIDE = 4000, 50, 4096, 2, 16
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_BACK = re.compile(r"\\[1-9]|\\[kg][<']|\(\?(?:R|P[=>]|&|\(|~)")
#: A repetition, with what makes it lazy or possessive; what may stand behind the bracket that opens a group.
_REPEATED = re.compile(r"(?:(?P<mark>[*+?])|\{(?P<least>\d{0,9})(?:,(?P<most>\d{0,9}))?\})[?+]?")
_OPENING = re.compile(r"(?:\?(?:<?[=!]|[>:]|<\w+>|[a-z-]+:))?")
_FLAGS = re.compile(r"\?[a-z-]+\)")
#: Texts on which a pattern that is slow shows it.
_TRIALS = (" ", "a", "é", "1", "!", "\n", "\t ", "a ", "a1", "'s", "漢", "\u0300", "\U0001f600", "Aa", "a!")
_TRIAL_LENGTH = 20_000
#: Characters that a pattern names, and every so many letters of all scripts, are tried as shorter texts; seconds of processor time that one
#: text may take: an honest pattern takes 2 ms for a short one, one that goes back over it three times 600.
_NAMED, _EVERY, _SHORT_LENGTH, _SLOWEST, _SHORT_SLOWEST = 256, 97, 1_000, 5.0, 0.2


def check_tokenizer(folder: Path) -> None:
    """Reads texts with the tokenizer in ``folder``, and lays out a conversation by the template, which an encoder lacks. Raises
    ModelInvalid."""
    path = folder / "tokenizer.json"
    patterns = list(_patterns(json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else []
    if any(map(may_run_away, patterns)):
        raise _runs_away(folder, "has a pattern that can take for ever")
    tokenizer = read_tokenizer(folder)
    letters = _letters(patterns)
    # What a pattern asks for at its end stands at the end: where a text lacks it, nothing is tried.
    ending = " " + "".join(letters[:_NAMED])
    trials = [(trial * (_TRIAL_LENGTH // len(trial)), _SLOWEST) for trial in _TRIALS]
    for trial, seconds in (*trials, *((letter * _SHORT_LENGTH, _SHORT_SLOWEST) for letter in letters)):
        started = time.process_time()
        tokenizer.encode(trial + ending, add_special_tokens=False)
        if time.process_time() - started > seconds:
            raise _runs_away(folder, f"takes more than {seconds} s for {len(trial):,} characters")
    template, said = folder / "chat_template.jinja", [Message(role="user", content="?"), Message(role="assistant", content="!")]
    if template.is_file():
        render_here(template.read_text(encoding="utf-8"), said, special_tokens(folder))


def _runs_away(folder: Path, what: str) -> ModelInvalid:
    hint = "use a tokenizer whose patterns repeat no group of several forms, and refer to no group"
    return ModelInvalid(f"the tokenizer of {folder.name} {what}", hint, code="model_tokenizer")


def _letters(patterns: Sequence[str]) -> list[str]:
    """Letters to try: those that stand in a pattern first, and some of each script."""
    named = dict.fromkeys(mark for pattern in patterns for mark in pattern)
    known = [letter for letter in map(chr, range(0xA0, 0x32000)) if letter.isalnum()]
    return [*list(named)[:_NAMED], *known[::_EVERY]]


def _patterns(content: Any) -> Iterator[str]:
    """Every regular expression in the description of a tokenizer."""
    if isinstance(content, dict):
        if isinstance(content.get("Regex"), str):
            yield content["Regex"]
        for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "pattern", "normalizers", "pretokenizers", "decoders"):
            yield from _patterns(content.get(name))
    elif isinstance(content, list):
        for each in content:
            yield from _patterns(each)


def may_run_away(pattern: str) -> bool:
    """True where matching ``pattern`` could take time that grows faster than a small power of the text's length."""
    if len(pattern) > _LONGEST or _BACK.search(pattern):
        return True
    try:
        return _PatternReader(_without_classes(_ESCAPED.sub("e", pattern))).measure().ways > _MOST_WAYS
    except _RunsAwayError:
        return True


class _RunsAwayError(ValueError):
    """A pattern whose time has no bound, or that is none."""


@dataclass(frozen=True)
class _Measure:
    """Ways in which a part of a pattern can match at one place of a text, apart from its ``wide`` repetitions, which depend on the text's
    length. A ``plain`` part repeats nothing and has no alternatives."""

    ways: int = 1
    wide: int = 0
    plain: bool = True

    def then(self, other: _Measure) -> _Measure:
        """Both, one after the other. Raises _RunsAwayError."""
        wide = self.wide + other.wide
        if wide > _MOST_WIDE or self.ways * other.ways > _MOST_WAYS:
            raise _RunsAwayError
        return _Measure(self.ways * other.ways, wide, self.plain and other.plain)

    def repeated(self, least: int, most: int | None) -> _Measure:
        """From ``least`` to ``most`` times (None: without bound). Raises _RunsAwayError where what is repeated can itself match in several
        ways: each way of each time would be tried with all others."""
        if most is not None and most <= 1:
            return _Measure(self.ways + (least == 0), self.wide, plain=False)
        if not self.plain:
            raise _RunsAwayError
        if least == most:
            return _Measure(plain=False)
        return _Measure(wide=1, plain=False) if most is None or most > _WIDE else _Measure(most - least + 1, plain=False)


class _PatternReader:
    """Measures a pattern in which each class and each escape is one letter."""

    def __init__(self, plain: str) -> None:
        self._plain = plain
        self._place = 0

    def measure(self) -> _Measure:
        """The measure of all of it. Raises _RunsAwayError."""
        found = self._choices(0)
        if self._place < len(self._plain):
            raise _RunsAwayError  # a bracket closes what none opened
        return found

    def _choices(self, depth: int) -> _Measure:
        if depth > _MOST_DEPTH:
            raise _RunsAwayError
        branches = [self._branch(depth)]
        while self._plain.startswith("|", self._place):
            self._place += 1
            branches.append(self._branch(depth))
        if len(branches) == 1:
            return branches[0]
        return _Measure(sum(branch.ways for branch in branches), max(branch.wide for branch in branches), plain=False)

    def _branch(self, depth: int) -> _Measure:
        found = _Measure()
        while self._place < len(self._plain) and self._plain[self._place] not in "|)":
            atom = self._atom(depth)
            if times := _REPEATED.match(self._plain, self._place):
                self._place = times.end()
                atom = atom.repeated(*_bounds(times))
                if _REPEATED.match(self._plain, self._place):
                    raise _RunsAwayError  # a repetition of a repetition
            found = found.then(atom)
        return found

    def _atom(self, depth: int) -> _Measure:
        mark = self._plain[self._place]
        self._place += 1
        if mark != "(":
            return _Measure()
        if flags := _FLAGS.match(self._plain, self._place):
            self._place = flags.end()
            return _Measure(plain=False)
        self._place = _OPENING.match(self._plain, self._place).end()  # type: ignore[union-attr]
        inside = self._choices(depth + 1)
        if not self._plain.startswith(")", self._place):
            raise _RunsAwayError
        self._place += 1
        return inside


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    """How often at least and at most."""
    if times["mark"]:
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[times["mark"]]
    least = int(times["least"] or 0)
    return (least, least) if times["most"] is None else (least, int(times["most"]) if times["most"] else None)


def _without_classes(pattern: str) -> str:
    """The pattern with one letter for each class, classes within it included."""
    parts: list[str] = []
    depth = 0
    for place, mark in enumerate(pattern):
        if mark == "[":
            depth += 1
        elif mark == "]" and depth and pattern[place - 1 : place] != "[" and pattern[place - 2 : place] != "[^":
            depth -= 1
            if not depth:
                parts.append("c")
        elif not depth:
            parts.append(mark)
    return "".join(parts)
