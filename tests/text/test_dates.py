"""Dates and times in cells."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.text.dates import is_dated, is_other_day, time_of


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-03-05", datetime(2024, 3, 5, tzinfo=UTC)),
        ("2024-03-05T01:30:00+02:00", datetime(2024, 3, 4, 23, 30, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("2024-03-05 01:30:00 UTC", datetime(2024, 3, 5, 1, 30, tzinfo=UTC)),
        ("05.03.2024", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times_are_read_as_people_write_them(cell: str, time: datetime | None) -> None:
    assert time_of(cell) == time


@pytest.mark.parametrize(
    "cell",
    ["31.12.2024",
"31-Dec-2024",
"31. Dezember 2024",
"2024-Q4",
"2024年1月5日",],
)  # fmt: skip
def test_days_that_are_not_read_are_seen_to_be_days(cell: str) -> None:
    """Those with the month's name, or a zone's, had become values."""
    assert is_other_day(cell)
    assert not is_dated(cell)


@pytest.mark.parametrize("cell", ["line 12", "4711", "10.0.0.1", "A-12-2024-B"])
def test_other_names_are_no_days(cell: str) -> None:
    assert not is_other_day(cell)
