"""The body of a ranking request: a question, the documents to rank, and how many are wanted.

In: bytes. Out: a ``RerankBody``, or InvalidInput that names the parameter. Must not know: HTTP, releases. Without documents those of the
release are ranked. The shape is that of Cohere and Jina, which vLLM serves too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from tailorbird.api.asked import NEUTRAL, Asked, Strict, Words
from tailorbird.domain.prompt import Message

#: Documents that a request may bring, and that an answer may name of a release's own.
MOST_GIVEN, MOST_OWN = 256, 100
#: Documents of the release that are named where nobody says how many.
_OWN = 10

WORDS = Words(
    neutral={
        **NEUTRAL,
        "stream": (None, False),
        "rank_fields": (None, [], ["text"]),
        "max_chunks_per_doc": (None,),
        "max_tokens_per_doc": (None,),
        "truncate_prompt_tokens": (None,),
    },
    harmless=frozenset({"priority"}),
)


class TextDocument(Strict):
    """A document as Cohere and Jina also take it."""

    text: str


class RerankBody(Asked):
    """A ranking request, as far as it is honoured."""

    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | TextDocument], Field(min_length=1, max_length=MOST_GIVEN, fail_fast=True)] | None = None
    top_n: Annotated[int, Field(ge=1, le=MOST_GIVEN)] | None = None
    return_documents: bool | None = None

    example: ClassVar[str] = '{"model": ..., "query": "...", "documents": ["...", "..."]}'

    @model_validator(mode="after")
    def _own_documents_are_named(self) -> RerankBody:
        if self.documents is None and self.return_documents:
            raise ValueError("return_documents goes with documents: those of a release are named, and not repeated")
        if self.documents is None and (self.top_n or 0) > MOST_OWN:
            raise ValueError(f"top_n is at most {MOST_OWN} where the documents of the release are ranked")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The documents to rank; none where those of the release are."""
        return tuple(each if isinstance(each, str) else each.text for each in self.documents or ())

    @property
    def conversations(self) -> tuple[tuple[Message, ...], ...]:
        """The question as a user's message, behind the documents: they are read, too."""
        return ((*(Message(role="system", content=text) for text in self.texts), Message(role="user", content=self.query)),)

    @property
    def is_mirrored(self) -> bool:
        """The order of the caller's documents is asked of one release alone."""
        return self.documents is None

    @property
    def token_limit(self) -> int | None:
        """Documents take the place of tokens."""
        return self.top_n or (_OWN if self.documents is None else len(self.documents))


def parse_rerank(body: bytes) -> RerankBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return WORDS.parse(RerankBody, body)
