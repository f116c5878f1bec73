"""Search indexes of rungs, and retrieval with its parts in local folders."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.retrieval import Entry, Retrieval
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.rungs.context import RungContext
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.passages import passages_of
from tailorbird.text.search_index import write_index

#: Texts longer than this share of all texts are not shown.
_SHOWN_LENGTHS = 0.95

Ways = tuple[Literal["words", "vectors"], ...]


def ways_of(context: RungContext) -> Ways:
    """Words alone where there is no encoder, both where there is one."""
    return ("words",) if context.encoder_folder is None else ("words", "vectors")


def make_index(context: RungContext, entries: Sequence[Entry]) -> Digest:
    """Stores an index of ``entries``, with their vectors where the plan names an encoder."""
    vectors = None
    if context.encoder_folder is not None:
        context.progress(f"reading {len(entries)} entries for the index")
        texts = [f"{entry.title} {entry.text}".strip() for entry in entries]
        vectors = context.encoder().embed(context.encoder_folder, texts)
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), entries, vectors)
        return context.artifacts.put_tree(Path(folder))


def as_examples(rows: Sequence[Row]) -> list[Entry]:
    """Training rows as entries with their answers; the longest twentieth is left out: shown together they would fill the context."""
    ordered = sorted(rows, key=lambda row: row.id)
    longest = sorted(len(row.text) for row in ordered)[int(_SHOWN_LENGTHS * (len(ordered) - 1))] if ordered else 0
    ordered = [row for row in ordered if len(row.text) <= longest]
    return [Entry(id=row.id, text=last_user_turn(row.text), target=row.target, access=(EVERYONE,)) for row in ordered]


def as_passages(context: RungContext) -> list[Entry]:
    """The tenant's documents as passages, each under its document's access list."""
    return [passage for document in context.documents for passage in passages_of(document)]


def retrieval_of(context: RungContext, what: Literal["examples", "passages"], entries: Sequence[Entry]) -> Retrieval:
    """The retrieval of a rung that shows ``plan.shots`` entries beside the text."""
    index = make_index(context, entries)
    return Retrieval(what=what, ways=ways_of(context), count=context.plan.shots, index=index, encoder=context.plan.encoder)


def local_retrieval(spec: Retrieval, store: ArtifactStore) -> LocalRetrieval:
    """A retrieval with its parts in verified folders. Raises NotFound, Corrupt."""

    def folder(digest: Digest | None) -> str | None:
        return str(store.get_tree(digest)) if digest else None

    return LocalRetrieval(
        spec=spec,
        index=str(store.get_tree(spec.index)),
        encoder=folder(spec.encoder),
        tuned=folder(spec.tuned),
        reranker=folder(spec.reranker),
    )
