"""Numbers as people read them: short, never wrong by a rounding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.reporting.tables import (
    human_count,
    human_money,
    human_seconds,
    interval,
)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (999.6, "1 k"),
        (999_999, "1 M"),
    ],
)
def test_counts_keep_three_digits(number: float, shown: str) -> None:
    assert human_count(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.004, "<0.1 s"),
        (59.96, "1 min 00 s"),
    ],
)
def test_seconds(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.0001, "<0.001"),
        (12.5, "12.50"),
    ],
)
def test_money(amount: float, shown: str) -> None:
    assert human_money(amount) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.96, 0.93551, 0.97949, "0.960 [0.935, 0.980]"),
        (523.26, 480.04, 560.01, "523.3 [480.0, 560.1]"),
    ],
)
def test_intervals_are_rounded_outwards(value: float, low: float, high: float, shown: str) -> None:
    assert interval(value, low, high) == shown


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_what_is_shown_never_says_more_than_what_was_found(low: float, high: float) -> None:
    low, high = sorted((low, high))
    ends = interval((low + high) / 2, low, high).split("[")[1].rstrip("]").split(", ")
    assert float(ends[0]) <= low + 1e-9
    assert float(ends[1]) >= high - 1e-9
