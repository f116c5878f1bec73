"""Merkle seal of a snapshot: root over salted row hashes, by which presence or absence of a row is proved.

All snapshots of an objective have one salt, so that one key shows a row in an old snapshot and its absence in a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.digest_arrays import order_of
from tailorbird.crypto.keyed_hashes import keyed
from tailorbird.crypto.membership_proofs import Members, Proof, TreeHead, head_of, key_of
from tailorbird.crypto.merkle import leaf_hashes
from tailorbird.crypto.tree_levels import TreeLevels
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


class Seal(NamedTuple):
    """Members uint8[M, 64] in the order of the tree, and the hash of each as a leaf, uint8[M, 32]; the root, where it is known already."""

    members_MB: NDArray[np.uint8]
    leaves_MB: NDArray[np.uint8]
    known_root: str = ""

    @property
    def stored(self) -> memoryview:
        """The members as they are stored, one after the other."""
        return np.ascontiguousarray(self.members_MB).data.cast("B")

    @property
    def root(self) -> str:
        """The root of the tree."""
        if self.known_root:
            return self.known_root
        leaves = self.leaves_MB.tobytes()
        return head_of([leaves[at : at + 32] for at in range(0, len(leaves), 32)]).root


def sealed(members_MB: NDArray[np.uint8]) -> Seal:
    """The seal of members (uint8[M, 64]) in any order."""
    ordered_MB = members_MB[order_of(members_MB[:, : MEMBER // 2])]
    hashed = b"".join(_leaves(ordered_MB.tobytes()))
    return Seal(ordered_MB, np.frombuffer(hashed, dtype=np.uint8).reshape(-1, 32))


class SealDraft:
    """The seal of M members of which some may get another content: it is made before all of them are known. Nobody gets another key."""

    def __init__(self, members_MB: NDArray[np.uint8]) -> None:
        order_M = order_of(members_MB[:, : MEMBER // 2])
        self._members_MB = members_MB[order_M]
        self._place_M = np.empty_like(order_M)
        self._place_M[order_M] = np.arange(len(order_M))
        self._levels = TreeLevels([*_leaves(self._members_MB.tobytes())])

    def members(self, places: Sequence[int]) -> NDArray[np.uint8]:
        """The members in ``places`` of those that were given, uint8[P, 64]."""
        return self._members_MB[self._place_M[[*places]]]

    def changed(self, places: Sequence[int], members: Sequence[bytes]) -> Seal:
        """The seal where ``members`` stand in the ``places`` of those that were given. The draft is used up."""
        at_C = self._place_M[[*places]] if places else self._place_M[:0]
        self._members_MB[at_C] = np.frombuffer(b"".join(members), dtype=np.uint8).reshape(-1, MEMBER)
        self._levels.replace(dict(zip(at_C.tolist(), leaf_hashes(members), strict=True)))
        leaves_MB = np.frombuffer(b"".join(self._levels.leaves), dtype=np.uint8).reshape(-1, MEMBER // 2)
        return Seal(self._members_MB, leaves_MB, self._levels.root.hex())


def members_of(stored: bytes) -> Members:
    """The tree of a seal as ``stored``."""
    return Members((stored[at : at + 32], stored[at + 32 : at + MEMBER]) for at in range(0, len(stored), MEMBER))


def head(stored: bytes) -> TreeHead:
    """The root of the tree of a seal as ``stored``, and its size."""
    return head_of(list(_leaves(stored)))


def _leaves(stored: bytes) -> Iterator[bytes]:
    return leaf_hashes(stored[at : at + MEMBER] for at in range(0, len(stored), MEMBER))


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
