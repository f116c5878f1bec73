"""Values of a columnar format as those of JSON: what no text format has becomes a text."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

#: Stands for a cell whose bytes are no UTF-8: half of a character, which no text may hold.
NO_TEXT = "\ud800"


def plain(value: Any, *, within: bool = False) -> Any:
    """``value`` with bytes and decimals as texts, durations in seconds, maps as objects, and, ``within`` another value, dates as texts."""
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, dict):
        return {str(key): plain(inner, within=True) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return _items(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time) or (within and isinstance(value, date)):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | date) else str(value)


def _items(value: list[Any] | tuple[Any, ...]) -> Any:
    """A map is read as pairs."""
    if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return {str(key): plain(inner, within=True) for key, inner in value}
    return [plain(item, within=True) for item in value]


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return NO_TEXT
