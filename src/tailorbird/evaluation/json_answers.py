"""Answers that are JSON objects: read, and compared by what they say."""

from __future__ import annotations

import json
import math
from typing import Any

from tailorbird.text.words import WORD_WEIGHT, normalise, normalise_answer, spaced_tokens, token_f1, word_weight

#: Words from which on a value is a text that nobody writes twice alike: it is compared by the words that both share.
#: What holds a digit is no such word: of a date or an account number nearly the same is wrong.
LONG_TEXT = 5


def json_object(text: str) -> dict[str, Any] | None:
    """The object that ``text`` is; None where it is none. Outer white space does not count. One that says a key twice, or a number that is
    none (NaN, Infinity, 1e400), is no object: readers differ in what it says."""
    try:
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def same_objects(one: str, other: str) -> bool | None:
    """Whether two objects say the same: neither the order of keys nor spacing counts, nor 2 or 2.0, nor in texts what ``normalise`` takes
    off. None where either is no object."""
    found, wanted = json_object(one), json_object(other)
    if found is None or wanted is None:
        return None
    try:
        return _told(found) == _told(wanted)
    except RecursionError:
        return None


def field_score(answer: str, reference: str) -> float | None:
    """How much of the object ``reference`` the answer says: the mean over the keys of both of how right the value is. 1 where it says the
    same (as ``same_objects``); of a text of ``LONG_TEXT`` words or more the token F1; of an object inside, its own score; else 0. 0 for an
    answer that is no object, or lies too deep to be compared, None where the reference is none."""
    found, wanted = json_object(answer), json_object(reference)
    if wanted is None:
        return None
    try:
        return _of_fields(found, wanted) if found is not None else 0.0
    except RecursionError:
        return 0.0


def is_long_text(value: Any) -> bool:
    """True for a value of which a near miss counts: a text of ``LONG_TEXT`` words or more, by ``word_weight`` where no space stands between
    them. What holds a digit, or no letter, is no word here; what stands between spaces (an address, say) is one."""
    if not isinstance(value, str):
        return False
    tokens = spaced_tokens(normalise(value))
    # Chinese numerals are digits.
    words = [token for token in tokens if any(map(str.isalpha, token)) and not any(map(str.isnumeric, token))]
    return sum(map(word_weight, words)) >= LONG_TEXT * WORD_WEIGHT


def _of_fields(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    keys = found.keys() | wanted.keys()
    return sum(_of_field(found[key], wanted[key]) for key in keys if key in found and key in wanted) / len(keys) if keys else 1.0


def _of_field(found: Any, wanted: Any) -> float:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return _of_fields(found, wanted)
    if isinstance(found, str) and is_long_text(wanted):
        return token_f1(found, wanted)
    return float(_told(found) == _told(wanted))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _told(value: Any) -> str:
    """One spelling: as text, since to Python ``true`` is 1."""
    return json.dumps(_folded(value), ensure_ascii=False, sort_keys=True)


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return normalise_answer(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _folded(each) for key, each in value.items()}
    return [_folded(each) for each in value] if isinstance(value, list) else value
