"""The body of a ranking request: a question, and how many documents are wanted.

In: bytes. Out: a ``RerankBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases, documents: those of the release
are ranked.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tailorbird.api.asked import NEUTRAL, Asked, Words
from tailorbird.domain.prompt import Message

WORDS = Words(neutral={**NEUTRAL, "stream": (None, False), "return_documents": (None, False)})


class RerankBody(Asked):
    """A ranking request, as far as it is honoured."""

    query: Annotated[str, Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1, le=100)] = 10

    example: ClassVar[str] = '{"model": ..., "query": "...", "top_n": 10}'

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """The question as a user's only message."""
        return ((Message(role="user", content=self.query),),)

    @property
    def token_limit(self) -> int | None:
        """Documents take the place of tokens."""
        return self.top_n


def parse_rerank(body: bytes) -> RerankBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return WORDS.parse(RerankBody, body)
