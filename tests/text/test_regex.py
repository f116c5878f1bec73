"""Patterns of authors: matched in linear time, with the classes that Python has, refused where they cannot be."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import InvalidInput
from tailorbird.text.regex import check_pattern, matches

PIECES = [
    "a",
    "é",
    "7",
    "_",
    " ",
    "-",
    ".",
    "\\w",
    "\\d",
    "\\s",
    "\\W",
    "\\D",
    "\\S",
    "[\\w.]",
    "[^\\d]",
    "[]a]",
    "[^]\\s]",
    "(a|7)",
    "\\u00e9",
    "\\-",
]


@pytest.mark.parametrize("pattern", [r"(\w+\s?)*!", r"(a+)+b", r"(a|a)*c", r"(\w*\w*\w*\w*\w*)*x"])
def test_a_pattern_that_goes_back_without_end_is_matched_at_once(pattern: str) -> None:
    started = time.monotonic()
    assert not matches(pattern, "a" * 50_000)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)a", r"(?<!b)a", r"(?>a+)", r"a{2000}", r"((a{500}){500}){500}", r"[a\S]", "x" * 3000])
def test_what_cannot_be_matched_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput) as error:
        check_pattern(pattern)
    assert error.value.error_code == "pattern_unsupported"
    assert "RE2" in error.value.hint


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", "a**"])
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
