"""Normalised texts, and the nearest known word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.text.words import normalise, normalise_answer


def test_a_power_and_a_fraction_are_other_numbers() -> None:
    """An answer of 102 had been right where 10² was due."""
    pairs = (("10² bar", "102 bar"), ("10⁻³", "10-3"), ("1½ h", "11⁄2 h"), ("x₁2", "x₁3"))
    assert all(normalise_answer(one) != normalise_answer(other) for one, other in pairs)
    assert normalise_answer("5 M²") == normalise_answer("5  m2")
    assert normalise_answer("10²") == normalise_answer("10^2")


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_a_normalised_text_is_its_own_normal_form(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
