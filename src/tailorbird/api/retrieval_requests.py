"""Request bodies of the embeddings and rerank endpoints."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tailorbird.api.request_base import NEUTRAL, ParameterRules, RequestBase, StrictModel
from tailorbird.domain.prompt import Message

#: Texts in one request at most.
MOST_TEXTS = 256

EMBEDDING_PARAMETERS = ParameterRules(neutral={"dimensions": (None,), "stream": (None, False)})


class EmbeddingBody(RequestBase):
    """An embeddings request, as far as it is honoured. Texts are strings; lists of tokens are refused, for whose tokens would they be?"""

    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"

    example: ClassVar[str] = '{"model": ..., "input": "..."}'

    @property
    def conversation(self) -> tuple[Message, ...]:
        """All texts at once, each as a message: they are read together, and leave one row."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        return tuple(Message(role="user", content=text) for text in texts)

    @property
    def token_limit(self) -> int | None:
        """Nothing is written."""
        return 1


def parse_embedding(body: bytes) -> EmbeddingBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return EMBEDDING_PARAMETERS.parse(EmbeddingBody, body)


#: Documents that a request may bring, and that an answer may name of a release's own.
MOST_GIVEN, MOST_OWN = 256, 100
#: Documents of the release that are named where nobody says how many.
_OWN = 10

RERANK_PARAMETERS = ParameterRules(
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


class TextDocument(StrictModel):
    """A document as Cohere and Jina also take it."""

    text: str


class RerankBody(RequestBase):
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
    def conversation(self) -> tuple[Message, ...]:
        """The question as a user's message, behind the documents: they are read, too."""
        return (*(Message(role="system", content=text) for text in self.texts), Message(role="user", content=self.query))

    @property
    def token_limit(self) -> int | None:
        """Documents take the place of tokens."""
        return self.top_n or (_OWN if self.documents is None else len(self.documents))


def parse_rerank(body: bytes) -> RerankBody:
    """Reads a body. Raises InvalidInput (400): not JSON, a parameter that is wrong, unknown, or not honoured."""
    return RERANK_PARAMETERS.parse(RerankBody, body)
