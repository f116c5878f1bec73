r"""Regular expressions from untrusted authors, matched in linear time (RE2).

Python's own engine goes back and tries again: ``(\w+\s?)*!`` takes hours over one line. What RE2 cannot say (backreferences, lookaround)
is refused. As in Python, ``\w``, ``\d`` and ``\s`` stand for the letters, digits and blanks of every script.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import Any

import re2

from tailorbird.domain.errors import InvalidInput

#: Bytes that a compiled pattern and its automaton may take, and characters of a pattern.
_MEMORY, _LONGEST = 1 << 23, 2000
#: A backslash with what it escapes, or one mark.
_PART = re.compile(r"\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|.", re.DOTALL)
_INSIDE = {"\\w": r"\pL\pN_", "\\d": r"\p{Nd}", "\\D": r"\P{Nd}", "\\s": r"\s\v\x1c-\x1f\x{85}\pZ"}
_OUTSIDE = {
    **{mark: f"[{inside}]" for mark, inside in _INSIDE.items()},
    "\\W": "[^" + _INSIDE["\\w"] + "]",
    "\\S": "[^" + _INSIDE["\\s"] + "]",
    "\\Z": r"\z",
}


def check_pattern(pattern: str) -> None:
    """Raises InvalidInput (``pattern_invalid``, ``pattern_unsupported``) for what is no pattern that can be matched in linear time."""
    _compiled(pattern)


def matches(pattern: str, text: str) -> bool:
    """True when all of ``text`` matches; the dot stands for every character. Raises InvalidInput as ``check_pattern``."""
    return _compiled(pattern).fullmatch(text.encode("utf-8", "replace")) is not None


def occurs(pattern: str, text: str) -> bool:
    """True when a part of ``text`` matches. Raises InvalidInput as ``check_pattern``."""
    return _compiled(pattern).search(text.encode("utf-8", "replace")) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    if len(pattern) > _LONGEST:
        raise _refused(f"it has more than {_LONGEST:,} characters", "pattern_unsupported")
    options = re2.Options()
    options.max_mem, options.log_errors, options.dot_nl, options.never_capture = _MEMORY, False, True, True
    try:
        # The pattern with classes and escapes of Python's as RE2 writes them.
        parts: list[str] = []
        brackets: str | None = None
        for found in _PART.finditer(pattern):
            part = found[0]
            parts.append(_part(part, brackets is not None))
            if brackets is None:
                brackets = "" if part == "[" else None
            else:  # one that closes right behind the one that opens is a mark like others
                brackets = None if part == "]" and brackets not in ("", "^") else brackets + part
        return re2.compile("".join(parts).encode("utf-8", "replace"), options)
    except re2.error as error:
        raise _refused(_reason(error), "pattern_unsupported" if _is_regular(pattern) else "pattern_invalid") from error


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _is_regular(pattern: str) -> bool:
    """True where Python's own engine would take the pattern. It is only parsed, not matched."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a later version may read otherwise, as in [[
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _refused(why: str, code: str) -> InvalidInput:
    return InvalidInput(
        f"the regular expression cannot be used: {why}",
        "write it in the syntax of RE2 (github.com/google/re2/wiki/Syntax): no backreferences, no lookahead or lookbehind, no possessive "
        "or atomic groups, at most 1,000 repetitions",
        code=code,
    )


def _part(part: str, inside: bool) -> str:
    if part[:2] in ("\\u", "\\U") and len(part) > 2:
        return f"\\x{{{part[2:]}}}"
    if inside and part in ("\\W", "\\S"):
        raise _refused(f"{part} stands in brackets", "pattern_unsupported")
    return (_INSIDE if inside else _OUTSIDE).get(part, part)
