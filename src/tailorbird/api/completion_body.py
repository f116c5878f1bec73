"""The body of a completion request, OpenAI's older form: a text, or several, instead of a conversation.

In: bytes. Out: a ``CompletionBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tailorbird.api.asked import NEUTRAL, Asked, Words
from tailorbird.domain.prompt import Message

#: Texts in one request at most.
MOST_PROMPTS = 16

WORDS = Words(neutral={**NEUTRAL, "logprobs": (None,), "best_of": (None, 1), "echo": (None, False), "suffix": (None, "")})


class CompletionBody(Asked):
    """A completion request, as far as it is honoured. Each text of ``prompt`` is a user's, and is answered for itself."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]

    example: ClassVar[str] = '{"model": ..., "prompt": "..."}'

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """One conversation for each text: a user's only message."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return tuple((Message(role="user", content=text),) for text in texts)


def parse_completion(body: bytes) -> CompletionBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return WORDS.parse(CompletionBody, body)
