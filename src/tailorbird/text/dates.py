"""Dates and times parsed from cells."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_YEAR, _MONTH, _EPOCH = re.compile(r"(19|20)\d\d"), re.compile(r"\d{4}-\d{2}"), re.compile(r"\d{9,10}|\d{12,13}")


def is_year(text: str) -> bool:
    """True for a year of these two centuries."""
    return _YEAR.fullmatch(text) is not None


def time_of(cell: str) -> datetime | None:
    """The time in ``cell``, None where it is none: ISO 8601 (a day, a month, a year), or seconds or milliseconds since 1970;
    without a zone it is UTC."""
    if is_year(cell):
        return datetime(int(cell), 1, 1, tzinfo=UTC)
    if _EPOCH.fullmatch(cell):
        return datetime.fromtimestamp(int(cell) / (1000 if len(cell) > 10 else 1), UTC)
    try:
        time = datetime.fromisoformat(f"{cell}-01" if _MONTH.fullmatch(cell) else cell)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
