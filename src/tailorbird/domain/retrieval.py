"""Retrieval settings, index entries and what was retrieved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tailorbird.domain.value import Digest, Value


class Entry(Value):
    """Something that can be found. ``text`` is searched and shown; ``target`` is the answer beside it (``examples``); ``access`` as in
    ``Document``."""

    id: str
    title: str = ""
    text: str
    target: str = ""
    access: tuple[str, ...]


class Retrieval(Value):
    """How entries are found, and how many.

    ``what``: ``examples`` are training rows shown as demonstrations, ``passages`` pieces of documents shown as context, ``documents`` are
    the answer themselves (rank). ``ways`` are fused where there are two. ``index`` is a tree of entries and their vectors, ``encoder``
    the tree of the model that made them; ``tuned`` the tree of an adapter or of weights that read queries too, as one more way. A
    ``reranker`` (tree of a cross-encoder) orders the first ``depth`` anew. ``release`` is the release of kind rank from which encoders of
    ``passages`` are taken. ``rewrite``: of a conversation the base model writes the query, as a question that stands alone.
    """

    what: Literal["examples", "passages", "documents"]
    ways: tuple[Literal["words", "vectors"], ...]
    count: int
    index: Digest
    encoder: Digest | None = None
    tuned: Digest | None = None
    reranker: Digest | None = None
    depth: int = 50
    release: Digest | None = None
    rewrite: bool = False


class RetrievedEntry(Value):
    """An entry that was found, and its score: comparable within one answer alone."""

    entry: Entry
    score: float


_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
_ALIAS = re.compile(r"(?:([a-z0-9][a-z0-9._-]{0,62})/)?([a-z0-9][a-z0-9._-]{0,62})")


@dataclass(frozen=True)
class ReleaseName:
    """What a release is called in an objective: by ``digest`` (or how it begins), or by an alias of a ``tenant`` (empty: the objective's
    own) with its ``name``."""

    digest: str = ""
    tenant: str = ""
    name: str = ""

    @classmethod
    def of(cls, text: str) -> ReleaseName | None:
        """What ``text`` means; None where it is no name of a release. Twelve hexadecimal digits or more are a digest."""
        if _DIGEST.fullmatch(text):
            return cls(digest=text)
        alias = _ALIAS.fullmatch(text)
        return cls(tenant=alias[1] or "", name=alias[2]) if alias else None
