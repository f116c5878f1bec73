"""Numbers as people read them: short, never wrong by a rounding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.reporting import difference, finding
from tailorbird.domain.evidence import Standing
from tailorbird.domain.plan import Estimate
from tailorbird.reporting.comparison_sentences import measured_words
from tailorbird.reporting.tables import (
    difference_text,
    estimate_text,
    finding_text,
    human_count,
    human_memory,
    human_money,
    human_seconds,
    interval,
    machine_memory,
    metric_text,
)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1 k"),
        (1000, "1 k"),
        (20_000, "20 k"),
        (999_499, "999 k"),
        (999_999, "1 M"),
        (4_884_480, "4.88 M"),
        (134_515_008, "135 M"),
        (7_600_000_000, "7.6 G"),
    ],
)
def test_counts_keep_three_digits(number: float, shown: str) -> None:
    assert human_count(number) == shown


@given(st.floats(0, 9.99e11))
def test_counts_never_fall_into_exponents(number: float) -> None:
    assert "e" not in human_count(number)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.004, "<0.1 s"),
        (0.06, "0.1 s"),
        (2.34, "2.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_seconds(seconds: float, shown: str) -> None:
    assert human_seconds(seconds) == shown


@pytest.mark.parametrize(("amount", "shown"), [(0, "0.000"), (0.0001, "<0.001"), (0.0036, "0.004"), (12.5, "12.50")])
def test_money(amount: float, shown: str) -> None:
    assert human_money(amount) == shown


def test_memory() -> None:
    assert human_memory(1.52) == "1.5 GiB"


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.96, 0.93551, 0.97949, "0.960 [0.935, 0.980]"),
        (0.9, 0.9, 0.9, "0.900 [0.900, 0.900]"),
        (523.26, 480.04, 560.01, "523.3 [480.0, 560.1]"),
        (0.0231, 0.02109, 0.02511, "0.0231 [0.0210, 0.0252]"),
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


def test_what_was_not_measured_is_a_dash() -> None:
    assert metric_text(None) == difference_text(None) == finding_text(finding(measured=False)) == "–"


def test_a_difference_has_its_sign_and_standing() -> None:
    assert difference_text(difference()) == "+0.070 not proven [-0.012, +0.150]"


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(low=120, likely=180, high=270, unit="s"), "2 min 00 s – 4 min 30 s"),
        (Estimate(low=1.24, likely=1.5, high=2.06, unit="GiB"), "1.2 – 2.1 GiB"),
        (Estimate(low=0.0033, likely=0.005, high=0.0075, unit="EUR"), "0.003 – 0.007 EUR"),
        (Estimate(low=900, likely=1000, high=1234, unit="EUR"), "900.0 – 1234.0 EUR"),
    ],
)
def test_estimates(estimate: Estimate, shown: str) -> None:
    assert estimate_text(estimate) == shown


def test_a_lower_value_that_is_better_is_told_as_better() -> None:
    """The sign is that of the numbers; the word beside it says what it means."""
    less = {"metric": "log_loss", "difference": -0.21, "low": -0.3, "high": -0.1, "standing": Standing.BETTER, "less_is_better": True}
    found = difference().model_copy(update=less)
    assert difference_text(found) == "-0.210 better [-0.300, -0.100]"
    assert measured_words(found) == "log_loss -0.210 [-0.300, -0.100], less is better"
    assert measured_words(difference()) == "accuracy +0.070 [-0.012, +0.150]"
    undefined = difference().model_copy(update={"reason": "ece is undefined"})
    assert difference_text(undefined) == "not proven: ece is undefined"
    assert measured_words(undefined) == "ece is undefined"


@pytest.mark.parametrize(
    ("gib", "shown"), [(0.01, "<0.1 GiB"), (0.1, "0.1 GiB"), (1.5, "1.5 GiB"), (4.0, "4 GiB"), (23.4, "23 GiB"), (1_000_000, "1000000 GiB")]
)
def test_no_machine_has_no_memory(gib: float, shown: str) -> None:
    assert machine_memory(gib) == shown
