"""Tokens that a server outside the house says it has read and written, where that can be; a high estimate otherwise.

Servers are paid by the token, and not all of them say how many there were. A token is at least a byte of text for every tokenizer that can
write any text, so bytes bound what was read and written; what is counted beyond them (a prompt of the server's own, reasoning that it does
not show) is believed within bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tailorbird.domain.prompt import Message

#: Tokens around each message that are not of its text.
_AROUND = 8
#: Bytes of text in one token, at most.
_LONGEST_TOKEN = 128
#: Tokens beyond the texts that a server may count: of a prompt of its own, and of reasoning that it does not show.
HIDDEN_PROMPT, HIDDEN_REASONING = 16_384, 131_072


class HostedTokens(NamedTuple):
    """Tokens read and written; ``estimated`` where the server did not say, or said what cannot be."""

    prompt: int
    completion: int
    estimated: bool = False


def size_of(text: str) -> int:
    """Bytes of a text, which may hold half a character: tokens of it, at most."""
    return len(text.encode("utf-8", "surrogatepass"))


def most_read(prompt: Sequence[Message]) -> int:
    """Tokens of a prompt, at most."""
    return sum(size_of(message.content) + _AROUND for message in prompt)


def believable_usage(told: Mapping[str, Any], prompt: Sequence[Message], written: int, most: int) -> HostedTokens:
    """What the server tells of a prompt and of an answer of ``written`` bytes, for which ``most`` tokens were asked.

    Of a count that is missing, negative, too small for its text or beyond all reason, the bytes stand in its place.
    """
    read = most_read(prompt)
    reads = _believable(told.get("prompt_tokens"), read - _AROUND * len(prompt), read + HIDDEN_PROMPT)
    writes = _believable(told.get("completion_tokens"), written, max(written, most) + HIDDEN_REASONING)
    return HostedTokens(read if reads is None else reads, written if writes is None else writes, estimated=None in (reads, writes))


def _believable(given: Any, size: int, most: int) -> int | None:
    """A count of tokens for a text of ``size`` bytes; None for what is none."""
    if not isinstance(given, int) or isinstance(given, bool):
        return None
    return given if size <= given * _LONGEST_TOKEN and 0 <= given <= most else None
