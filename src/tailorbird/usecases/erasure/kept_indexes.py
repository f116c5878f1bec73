"""Stored indexes that hold entries of a person, whether or not the rung that made one came to an end."""

from __future__ import annotations

import json
from pathlib import Path

from tailorbird.domain.errors import Corrupt, NotFound
from tailorbird.domain.value import Digest
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.erasure.lineage import Found


def kept_indexes(deps: Dependencies, tenant: str, found: Found) -> set[Digest]:
    """Trees among those that the tenant's folder of indexes remembers: a run that was ended in training left its index and no candidate."""
    theirs = {item.id for held in found.values() for item in held.items}
    theirs |= {document.id for held in found.values() for document in held.documents}
    kept = {path.read_text(encoding="ascii").strip() for path in deps.indexes(tenant).glob("*.txt")}
    return {digest for digest in kept if theirs & _entries(deps, digest)}


def _entries(deps: Dependencies, index: Digest) -> set[str]:
    """Items and documents of an index, by name; passages are named by their document. Nothing where its bytes are gone."""
    try:
        lines = (Path(deps.artifacts.get_tree(index)) / "entries.jsonl").read_bytes().splitlines()
    except (NotFound, Corrupt, FileNotFoundError):
        return set()
    names = [str(json.loads(line)["id"]) for line in lines]
    return {*names, *(name.rpartition("#")[0] for name in names)}
