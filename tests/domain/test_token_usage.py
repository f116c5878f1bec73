"""What a server says it has read and written is believed where it can be."""

from __future__ import annotations

import pytest

from tailorbird.domain.deployment import HIDDEN_PROMPT, HIDDEN_REASONING, HostedTokens, believable_usage, most_read, size_of
from tailorbird.domain.prompt import Message

PROMPT = (Message(role="system", content="é" * 100), Message(role="user", content="x" * 56))
READ = 256 + 16


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"prompt_tokens": 60, "completion_tokens": 20}, HostedTokens(60, 20)),
        ({}, HostedTokens(READ, 90, True)),
        ({"prompt_tokens": -60, "completion_tokens": -1}, HostedTokens(READ, 90, True)),
        ({"prompt_tokens": 10**12, "completion_tokens": 10**12}, HostedTokens(READ, 90, True)),
        ({"prompt_tokens": READ + HIDDEN_PROMPT, "completion_tokens": 500 + HIDDEN_REASONING}, HostedTokens(272 + 16384, 500 + 131072)),
        ({"prompt_tokens": READ + HIDDEN_PROMPT + 1, "completion_tokens": 501 + HIDDEN_REASONING}, HostedTokens(READ, 90, True)),
    ],
)
def test_counts_that_can_be_and_others(told: dict[str, object], found: HostedTokens) -> None:
    assert believable_usage(told, PROMPT, 90, 500) == found


def test_half_a_character_has_a_size() -> None:
    assert size_of("\ud800") == 3
    assert most_read((Message(role="user", content="\ud800"),)) == 11
