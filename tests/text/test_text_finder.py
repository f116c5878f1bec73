"""Texts are found again in others, and short ones are not found everywhere."""

from __future__ import annotations

import pytest

from tailorbird.text.text_finder import TextFinder

LONG = "My parcel to the old mill road never came, and nobody told me why."


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        LONG.upper(),
        f"  {LONG.replace(' ', '   ')} ",
        f"Hello! {LONG} Please help.",
        "my parcel to the old mill road never came and nobody told me why",
    ],
)
def test_a_text_is_found_whole_and_as_a_part_whatever_its_case_and_marks(text: str) -> None:
    assert TextFinder([LONG]).held_by(text)


@pytest.mark.parametrize("text", ["", "...", "My parcel to the old mill road never came.", "never came, and nobody told me why"])
def test_a_part_of_it_is_not_it(text: str) -> None:
    assert not TextFinder([LONG]).held_by(text)


def test_a_short_text_is_found_only_where_it_is_all_that_is_said() -> None:
    quotes = TextFinder(["where is my order"])
    assert quotes.held_by("Where is my order?")
    assert not quotes.held_by("where is my order, which I made on monday")


def test_names_are_found_as_words_and_short_ones_not_at_all() -> None:
    quotes = TextFinder([], ["Ada Lovelace", "7", "Al"])
    assert quotes.held_by("this is ADA  LOVELACE speaking")
    assert not quotes.held_by("Ada said 7 things to Al")
    assert not quotes.held_by("Ada Lovelaces")
    assert not TextFinder(["", "!"], ["7"])
