"""Dates and times in cells."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.text.dates import time_of


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-03", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024-03-05", datetime(2024, 3, 5, tzinfo=UTC)),
        ("2024-03-05T01:30:00+02:00", datetime(2024, 3, 4, 23, 30, tzinfo=UTC)),
        ("2024-03-05 01:30", datetime(2024, 3, 5, 1, 30, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("1700000000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("05.03.2024", None),
        ("soon", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times_are_read_as_people_write_them(cell: str, time: datetime | None) -> None:
    assert time_of(cell) == time
