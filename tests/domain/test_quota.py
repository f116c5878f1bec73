"""Windows of a quota, and amounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tailorbird.domain.identity import Amounts, KeyPeriod, Period, window_end, window_start

AT = datetime(2028, 2, 29, 23, 59, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("minute", datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("day", datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ("month", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_window_holds_the_moment_in_utc_wherever_it_was_told(period: Period | KeyPeriod, start: datetime, end: datetime) -> None:
    for moment in (AT, AT.astimezone(timezone(timedelta(hours=9)))):
        assert window_start(period, moment) == start
    assert window_end(period, start) == end


def test_december_ends_with_the_year() -> None:
    assert window_end("month", datetime(2027, 12, 1, tzinfo=UTC)) == datetime(2028, 1, 1, tzinfo=UTC)


def test_what_was_added_is_taken_off_without_a_debt_by_rounding() -> None:
    used = Amounts(1, 2, 3, 0.1).plus(Amounts(1, 1, 1, 0.2))
    assert used.minus(Amounts(2, 3, 4, 0.30000000000000009)) == Amounts(0, 0, 0, 0.0)
    assert used.minus(Amounts(0, 0, 0, 1.0)).money == pytest.approx(-0.7)
