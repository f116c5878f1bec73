"""Checksums of cards and accounts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.checked_numbers import luhn, mod97, verhoeff


@given(st.text("0123456789", min_size=1, max_size=18))
def test_one_digit_makes_a_check_hold(digits: str) -> None:
    assert sum(luhn(digits + last) for last in "0123456789") == 1
    assert sum(verhoeff(digits + last) for last in "0123456789") == 1


def test_the_iban_of_the_standard_holds() -> None:
    assert mod97("GB82WEST12345698765432")
    assert not mod97("GB82WEST12345698765433")
