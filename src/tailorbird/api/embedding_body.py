"""The body of an embeddings request: one text, or several.

In: bytes. Out: an ``EmbeddingBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases, encoders.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tailorbird.api.asked import Asked, Words
from tailorbird.domain.prompt import Message

#: Texts in one request at most.
MOST_TEXTS = 256

WORDS = Words(neutral={"dimensions": (None,), "stream": (None, False)})


class EmbeddingBody(Asked):
    """An embeddings request, as far as it is honoured. Texts are strings; lists of tokens are refused, for whose tokens would they be?"""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"

    example: ClassVar[str] = '{"model": ..., "input": "..."}'

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """All texts at once, each as a message: they are read together, and leave one row."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        return (tuple(Message(role="user", content=text) for text in texts),)

    @property
    def is_mirrored(self) -> bool:
        """Vectors of two encoders have nothing to be compared by."""
        return False

    @property
    def token_limit(self) -> int | None:
        """Nothing is written."""
        return 1


def parse_embedding(body: bytes) -> EmbeddingBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return WORDS.parse(EmbeddingBody, body)
