"""Patterns of authors: matched in linear time, with the classes that Python has, refused where they cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import InvalidInput
from tailorbird.text.regex import check_pattern, matches

PIECES = [*"aé7_ -.", *[r"\w", r"\d", r"\s", r"\W", r"\D", r"\S", r"[\w.]", r"[^\d]", r"[]a]", r"[^]\s]", r"(a|7)", r"\u00e9", r"\-"]]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+\s?)*!",
        r"(a|a)*c",
    ],
)
def test_a_pattern_that_goes_back_without_end_is_matched_at_once(pattern: str) -> None:
    assert not matches(pattern, "a" * 50_000)


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)a", r"(?>a+)", r"((a{500}){500}){500}", "x" * 3000])
def test_what_cannot_be_matched_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput) as error:
        check_pattern(pattern)
    assert error.value.error_code == "pattern_unsupported"


@pytest.mark.parametrize("pattern", ["(", "[a", "*a"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput) as error:
        check_pattern(pattern)
    assert error.value.error_code == "pattern_invalid"


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", "*", "+", "?"])), max_size=4), st.text("aé7_ -.]\n٣ǅ", max_size=6))
def test_what_it_matches_is_what_python_matches(parts: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(piece + count for piece, count in parts)
    assert matches(pattern, text) == (re.fullmatch(pattern, text, re.DOTALL) is not None)


def test_half_a_character_in_an_answer_is_no_error() -> None:
    assert matches(".", "\ud800")
