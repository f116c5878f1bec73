"""Dates and times parsed from cells."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_Y, _NAME, _BETWEEN = r"(?:19|20)\d\d", r"[^\W\d_]{3,}\.?", r"[ ./,-]{1,2}"
#: Days as people and programs write them, with hours or without.
_OTHER_DAY = re.compile(
    "(?:"
    + "|".join(
        (
            r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})",  # 31.12.2024, 12/31/24
            rf"{_Y}([./-])\d{{1,2}}\2\d{{1,2}}",  # 2024/12/31, 2024-1-5; 2024-12-31 with hours that are not read
            rf"(?:[A-Za-z]{{2,9}}\.?, )?\d{{1,2}}(?:st|nd|rd|th|er)?{_BETWEEN}{_NAME}{_BETWEEN}(?:{_Y}|\d\d)",  # 31-Dec-24, 31. Mai 2024
            rf"{_NAME}{_BETWEEN}\d{{1,2}}(?:st|nd|rd|th)?{_BETWEEN}{_Y}",  # Dec 31, 2024
            rf"{_NAME}{_BETWEEN}{_Y}|\d{{1,2}}[./-]{_Y}",  # Dec 2024, 12/2024
            rf"{_Y}[-/ ]?Q[1-4]|Q[1-4][-/ ]?{_Y}",  # 2024-Q4
            rf"{_Y}\s?[年년].*",  # 2024年12月31日
        )
    )
    + r")(?:[ T,].*)?",
    re.DOTALL,
)
_COMPACT = re.compile(r"(19|20)\d{6}(T[\d:.,]+(Z|[+-][\d:]+)?)?")
#: How a time says that it is UTC, beside ``Z`` and ``+00:00``.
_UTC = re.compile(r"(.*\d) ?(?:UTC|GMT)")
_YEAR, _MONTH, _EPOCH = re.compile(r"(19|20)\d\d"), re.compile(r"\d{4}-\d{2}"), re.compile(r"\d{9,10}|\d{12,13}")


def is_year(text: str) -> bool:
    """True for a year of these two centuries."""
    return _YEAR.fullmatch(text) is not None


def is_other_day(text: str) -> bool:
    """True for what looks like a day, a month or a quarter that ``time_of`` does not read: which number is the day, and how months and
    zones are called, differs by country."""
    return _OTHER_DAY.fullmatch(text) is not None and time_of(text) is None


def is_dated(text: str) -> bool:
    """True for a year, and for a day or a time that is written with hyphens or as YYYYMMDD: numbers alone may be anything."""
    return is_year(text) or (("-" in text or _COMPACT.fullmatch(text) is not None) and time_of(text) is not None)


def time_of(cell: str) -> datetime | None:
    """The time in ``cell``, None where it is none: ISO 8601 (a day, a month, a year), or seconds or milliseconds since 1970;
    without a zone, and with ``UTC`` or ``GMT`` behind it, it is UTC."""
    if is_year(cell):
        return datetime(int(cell), 1, 1, tzinfo=UTC)
    if _EPOCH.fullmatch(cell):
        return datetime.fromtimestamp(int(cell) / (1000 if len(cell) > 10 else 1), UTC)
    if said := _UTC.fullmatch(cell):
        cell = said[1]
    try:
        time = datetime.fromisoformat(f"{cell}-01" if _MONTH.fullmatch(cell) else cell)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
