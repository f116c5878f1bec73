"""Retrieval settings, index entries and what was retrieved."""

from __future__ import annotations

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
    ``reranker`` (tree of a cross-encoder) orders the first ``depth`` anew.
    """

    what: Literal["examples", "passages", "documents"]
    ways: tuple[Literal["words", "vectors"], ...]
    count: int
    index: Digest
    encoder: Digest | None = None
    tuned: Digest | None = None
    reranker: Digest | None = None
    depth: int = 50


class RetrievedEntry(Value):
    """An entry that was found, and its score: comparable within one answer alone."""

    entry: Entry
    score: float
