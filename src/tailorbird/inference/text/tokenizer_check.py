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
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from tailorbird.chat.tokenizer import read_tokenizer
from tailorbird.domain.errors import ModelInvalid

#: Characters of a pattern; groups; ways in which it may match at one place of a text; repetitions without bound (or of more
#: than so many times) that may follow one another: two take time in the square of what they match.
_LONGEST, _MOST_GROUPS, _MOST_WAYS, _MOST_WIDE, _WIDE = 4000, 50, 4096, 2, 16
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_BACK = re.compile(r"\\[1-9]|\\[kg][<']|\(\?(?:R|P[=>]|&|\(|~)")
#: Texts on which a pattern that is slow shows it.
_TRIALS = (" ", "a", "é", "1", "!", "\n", "\t ", "a ", "a1", "'s", "漢", "\u0300", "\U0001f600", "Aa", "a!")
_TRIAL_LENGTH = 20_000
#: Characters that a pattern names, and every so many letters of all scripts, are tried as shorter texts; seconds of processor time that one
#: text may take: an honest pattern takes 2 ms for a short one, one that goes back over it three times 600.
_NAMED, _EVERY, _SHORT_LENGTH, _SLOWEST, _SHORT_SLOWEST = 256, 97, 1_000, 5.0, 0.2


def check_tokenizer(folder: Path) -> None:
    """Reads texts with the tokenizer in ``folder``. Raises ModelInvalid."""
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


def _runs_away(folder: Path, what: str) -> ModelInvalid:
    hint = "use a tokenizer whose patterns repeat no group of several forms, and refer to no group"
    return ModelInvalid(f"the tokenizer of {folder.name} {what}", hint, code="model_unreadable")


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
    plain = _without_classes(_ESCAPED.sub("e", pattern))
    if len(pattern) > _LONGEST or plain.count("(") > _MOST_GROUPS or _BACK.search(pattern):
        return True
    try:
        return not _measured(_parser.parse(plain)).bounded
    except (re.error, RecursionError, OverflowError):
        return True


class _Measure(NamedTuple):
    """Ways in which a part of a pattern can match at one place of a text, apart from its ``wide`` repetitions, which depend on the text's
    length. A ``plain`` part repeats nothing and has no alternatives."""

    ways: int = 1
    wide: int = 0
    plain: bool = True

    @property
    def bounded(self) -> bool:
        return self.ways <= _MOST_WAYS and self.wide <= _MOST_WIDE


_ENDLESS = _Measure(_MOST_WAYS + 1)


def _measured(parts: Any) -> _Measure:
    """The measure of a part as Python parses it, in which each class and each escape was one letter."""
    found = _Measure()
    for kind, given in parts:
        name = str(kind)
        if name == "BRANCH":
            branches = [_measured(branch) for branch in given[1]]
            one = _Measure(sum(branch.ways for branch in branches), max(branch.wide for branch in branches), plain=False)
        elif name == "IN":  # branches of one letter each
            one = _Measure(len(given), plain=False)
        elif name.endswith("_REPEAT"):
            one = _repeated(_measured(given[2]), given[0], given[1])
        elif name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT", "ATOMIC_GROUP"):
            one = _measured(given if name == "ATOMIC_GROUP" else given[-1])
        else:
            one = _Measure() if name in ("LITERAL", "ANY", "AT") else _ENDLESS
        found = _Measure(found.ways * one.ways, found.wide + one.wide, found.plain and one.plain)
        if not found.bounded:
            return _ENDLESS
    return found


def _repeated(what: _Measure, least: int, most: int) -> _Measure:
    """Endless where what is repeated can itself match in several ways: each way of each time would be tried with all others."""
    if most <= 1:
        return _Measure(what.ways + (least == 0), what.wide, plain=False)
    if not what.plain:
        return _ENDLESS
    if least == most:
        return _Measure(plain=False)
    return _Measure(wide=1, plain=False) if most > _WIDE else _Measure(most - least + 1, plain=False)


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
