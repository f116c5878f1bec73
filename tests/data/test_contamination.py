"""Word runs that two texts share."""

from __future__ import annotations

from tailorbird.data.contamination import overlapping

QUESTION = "where can i use this card when i am travelling in the whole country next month"


def test_a_text_quoted_in_a_longer_one_overlaps_and_a_phrase_does_not() -> None:
    quoted = f"a customer wrote yesterday and nobody knew: {QUESTION} and i said that we would come back to it soon enough"
    phrase = "this e-mail is confidential and meant for the person named in it only"
    signed = [
        f"{word} {word}{word} {phrase}"
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
    ]
    assert overlapping([QUESTION, quoted, "where can i use this card"]) == [(0, 1)]
    assert overlapping(signed) == []
    assert overlapping([]) == overlapping(["one"]) == []
