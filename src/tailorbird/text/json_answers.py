"""Answers that are JSON objects: read, and compared by what they say."""

from __future__ import annotations

import json
import math
from typing import Any

from tailorbird.text.normalisation import normalise


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


def _told(value: dict[str, Any]) -> str:
    """One spelling: as text, since to Python ``true`` is 1."""
    return json.dumps(_folded(value), ensure_ascii=False, sort_keys=True)


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return normalise(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _folded(each) for key, each in value.items()}
    return [_folded(each) for each in value] if isinstance(value, list) else value
