"""Search indexes of rungs, and retrieval with its parts in local folders."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.domain.prompt import Entry, Retrieval
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.rungs.context import RungContext
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.search_index import passages_of, write_index

#: Texts longer than this share of all texts are not shown.
_SHOWN_LENGTHS = 0.95

Ways = tuple[Literal["words", "vectors"], ...]


def ways_of(context: RungContext) -> Ways:
    """Words alone where there is no encoder, both where there is one."""
    return ("words",) if context.encoder_folder is None else ("words", "vectors")


def make_index(context: RungContext, entries: Sequence[Entry]) -> Digest:
    """The stored index of ``entries``, with their vectors where the plan names an encoder.

    Equal entries and an equal encoder give an equal index, so it is made once: what was stored is kept by what it was made of, for all
    rungs, base models and runs of the tenant. One whose bytes are gone is made anew.
    """
    kept = context.indexes / f"{_made_of(context, entries)}.txt"
    if (known := _known(context, kept)) is not None:
        return known
    stored = _stored(context, entries)
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_suffix(f".{os.getpid()}.part")
    new.write_text(stored, encoding="ascii")
    new.replace(kept)
    return stored


def _known(context: RungContext, kept: Path) -> Digest | None:
    """The index that ``kept`` remembers, where it is whole. It is put again, which is free, so that it counts as this step's work too."""
    try:
        return context.artifacts.put_tree(context.artifacts.get_tree(kept.read_text(encoding="ascii")))
    except (FileNotFoundError, NotFound, Corrupt):
        return None


def _made_of(context: RungContext, entries: Sequence[Entry]) -> str:
    """Name of what an index is made of, without words: entries in their order, and the encoder that reads them."""
    hashed = hashlib.sha256(f"{context.plan.encoder}\n".encode())
    for entry in entries:
        hashed.update(canonical_json(entry) + b"\n")
    return hashed.hexdigest()


def _stored(context: RungContext, entries: Sequence[Entry]) -> Digest:
    vectors = None
    if context.encoder_folder is not None:
        context.progress(f"reading {len(entries)} entries for the index")
        texts = [f"{entry.title} {entry.text}".strip() for entry in entries]
        vectors = context.encoder().embed(context.encoder_folder, texts, purpose=_purpose(entries))
    with tempfile.TemporaryDirectory() as folder:
        write_index(Path(folder), entries, vectors)
        return context.artifacts.put_tree(Path(folder))


def _purpose(entries: Sequence[Entry]) -> Purpose:
    """Examples are compared with their like; whatever has no answer beside it may answer a question."""
    return "text" if any(entry.target for entry in entries) else "passage"


def as_examples(rows: Sequence[Row]) -> list[Entry]:
    """Training rows as entries with their answers; the longest twentieth is left out: shown together they would fill the context."""
    ordered = sorted(rows, key=lambda row: row.id)
    longest = sorted(len(row.text) for row in ordered)[int(_SHOWN_LENGTHS * (len(ordered) - 1))] if ordered else 0
    ordered = [row for row in ordered if len(row.text) <= longest]
    return [Entry(id=row.id, text=last_user_turn(row.text), target=row.answer, access=(EVERYONE,)) for row in ordered]


def as_passages(context: RungContext) -> list[Entry]:
    """The tenant's documents as passages, each under its document's access list."""
    return [passage for document in context.documents for passage in passages_of(document)]


def retrieval_of(context: RungContext, what: Literal["examples", "passages"], entries: Sequence[Entry]) -> Retrieval:
    """The retrieval of a rung that shows ``plan.shots`` entries beside the text: as the release finds them that the plan names, else by
    words and by vectors where there is an encoder."""
    plan, index = context.plan, make_index(context, entries)
    if plan.ranker is None:
        return Retrieval(what=what, ways=ways_of(context), count=plan.shots, index=index, encoder=plan.encoder, rewrite=plan.rewrite)
    return Retrieval(
        what=what,
        ways=plan.ranker.ways,
        count=plan.shots,
        index=index,
        encoder=plan.ranker.encoder,
        tuned=plan.ranker.tuned,
        reranker=plan.ranker.reranker,
        depth=plan.ranker.depth,
        release=plan.ranker.release,
        rewrite=plan.rewrite,
    )


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
