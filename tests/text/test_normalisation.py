"""Normalised texts, and the nearest known word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.text.normalisation import nearest, normalise


def test_case_width_and_white_space_do_not_count() -> None:
    assert normalise(" Ｆull  WIDTH\tStraße\n") == "full width strasse"


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_a_normalised_text_is_its_own_normal_form(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_a_typing_error_is_near_and_another_word_is_not() -> None:
    assert nearest("acuracy", ["accuracy", "macro_f1"]) == "accuracy"
    assert nearest("weather", ["accuracy", "macro_f1"]) is None
