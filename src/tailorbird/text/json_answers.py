"""Answers that are JSON objects: read, and compared by what they say."""

from __future__ import annotations

import json
from typing import Any

from tailorbird.text.normalisation import normalise


def json_object(text: str) -> dict[str, Any] | None:
    """The object that ``text`` is; None where it is none. Outer white space does not count."""
    try:
        found = json.loads(text)
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
