"""Merkle seal of a snapshot: root over salted row hashes, by which presence or absence of a row is proved.

All snapshots of an objective have one salt, so that one key shows a row in an old snapshot and its absence in a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from tailorbird.crypto.canonical_json import canonical_json, keyed
from tailorbird.crypto.merkle import Members, Proof, TreeHead, head_of, key_of, leaf_hashes
from tailorbird.data.readers.source_rows import row_id
from tailorbird.domain.dataset import Document, DocumentSeal, SnapshotManifest
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore

#: Bytes of a member: its key, and the digest of its content.
MEMBER = 64


def salt_of(secret: bytes, objective: str) -> bytes:
    """The salt of an objective's snapshots."""
    return hmac.digest(secret, f"tailorbird/rows/v1\n{objective}".encode(), hashlib.sha256)


class MemberHashes:
    """Members of one tree, by its salt."""

    def __init__(self, salt: bytes) -> None:
        self._hashed = keyed(salt)

    def member(self, row: Digest, line: bytes) -> bytes:
        """What stands for the row ``row`` in the tree: its salted key (as ``key_of`` has it), and the salted hash of all that it holds (its
        canonical JSON)."""
        return self._hashed(row.encode()) + self._hashed(line)


def members_of(stored: bytes) -> Members:
    """The tree of a seal as ``stored``."""
    return Members((stored[at : at + 32], stored[at + 32 : at + MEMBER]) for at in range(0, len(stored), MEMBER))


def head(stored: bytes) -> TreeHead:
    """The root of the tree of a seal as ``stored``, and its size."""
    return head_of(list(leaf_hashes(stored[at : at + MEMBER] for at in range(0, len(stored), MEMBER))))


def stored(members: Iterable[bytes]) -> bytes:
    """The members one after the other, in the order of the tree."""
    return b"".join(sorted(members))


def seal_documents(documents: Iterable[Document], salt: bytes, artifacts: ArtifactStore) -> DocumentSeal | None:
    """The seal of a snapshot's documents; None where there are none."""
    hashes = MemberHashes(salt)
    members = [hashes.member(document_key(document), canonical_json(document)) for document in documents]
    if not members:
        return None
    seal = stored(members)
    return DocumentSeal(root=head(seal).root, size=len(members), members=artifacts.put(seal))


def document_key(document: Document) -> Digest:
    """What makes a document this one and no other: its text and its id."""
    return row_id(document.text, document.id)


def prove_rows(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, rows: Sequence[Digest]
) -> list[tuple[str, Proof, Proof]]:
    """For each of ``rows`` its salted key, its proof in the snapshot ``before`` and its proof in the snapshot ``after``."""
    return _prove(artifacts, salt_of(secret, before.objective), (before.seal, after.seal), rows)


def prove_documents(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, documents: Sequence[Document]
) -> list[tuple[str, Proof, Proof]]:
    """The same for ``documents``. Nothing is proved of snapshots of earlier versions, whose documents have no seal."""
    was, now = before.sealed_documents, after.sealed_documents
    if was is None:
        return []
    seals = was.members, now.members if now else None
    return _prove(artifacts, salt_of(secret, before.objective), seals, list(map(document_key, documents)))


def _prove(
    artifacts: ArtifactStore, salt: bytes, seals: tuple[Digest | None, Digest | None], named: Sequence[Digest]
) -> list[tuple[str, Proof, Proof]]:
    was, now = (members_of(artifacts.get(seal)) if seal else Members(()) for seal in seals)
    keys = [key_of(salt, each) for each in named]
    return [(key.hex(), was.prove(key), now.prove(key)) for key in keys]
