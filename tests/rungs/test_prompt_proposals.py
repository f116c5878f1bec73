"""What is taken of a proposal that a model wrote."""

from __future__ import annotations

import pytest

from tailorbird.rungs.prompt_proposals import cleaned


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ('Sure! Here is the instruction:\n\n"Name the intent of the message."', "Name the intent of the message."),
        ("Revised instruction: Name the intent.", "Name the intent."),
        ("**Instruction:** Name the intent.", "Name the intent."),
        ("1. Read the message.\n2. Name the intent.", "Read the message."),
        ("- Name the intent.", "Name the intent."),
        ("\n\n  Name   the intent.  \n", "Name the intent."),
        ("Here it is:", ""),
        ("", ""),
    ],
)
def test_the_first_line_that_says_something_is_taken(written: str, taken: str) -> None:
    assert cleaned(written) == taken
