"""The seal of a snapshot: the root of the tree over its salted row hashes, by which presence and absence of a row are proved.

In: rows as they are stored, the tenant's secret. Out: the members of the tree, its root; the salted key of a row. Must not know: where rows
lie, who asks for a proof.

All snapshots of an objective have one salt, so that one key shows a row in an old snapshot and its absence in a new one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.value import Digest
from tailorbird.foundations.membership import Head, Members, Proof, head_of, key_of
from tailorbird.foundations.merkle import leaf_hash
from tailorbird.ports.artifacts import ArtifactStore

#: Bytes of a member: its key, and the digest of its content.
MEMBER = 64


def salt_of(secret: bytes, objective: str) -> bytes:
    """The salt of an objective's snapshots."""
    return hmac.digest(secret, f"tailorbird/rows/v1\n{objective}".encode(), hashlib.sha256)


def member(row: Digest, line: bytes, salt: bytes) -> bytes:
    """What stands for the row ``row`` in the tree: its salted key, and the salted hash of all that it holds (its canonical JSON)."""
    return key_of(salt, row) + hmac.digest(salt, line, hashlib.sha256)


def members_of(stored: bytes) -> Members:
    """The tree of a seal as ``stored``."""
    return Members((stored[at : at + 32], stored[at + 32 : at + MEMBER]) for at in range(0, len(stored), MEMBER))


def head(stored: bytes) -> Head:
    """The root of the tree of a seal as ``stored``, and its size."""
    return head_of([leaf_hash(stored[at : at + MEMBER]) for at in range(0, len(stored), MEMBER)])


def stored(members: Iterable[bytes]) -> bytes:
    """The members one after the other, in the order of the tree."""
    return b"".join(sorted(members))


def prove_rows(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, rows: Sequence[Digest]
) -> list[tuple[str, Proof, Proof]]:
    """For each of ``rows`` its salted key, its proof in the snapshot ``before`` and its proof in the snapshot ``after``."""
    salt = salt_of(secret, before.objective)
    was, now = (members_of(artifacts.get(manifest.seal)) if manifest.seal else Members(()) for manifest in (before, after))
    keys = [key_of(salt, row) for row in rows]
    return [(key.hex(), was.prove(key), now.prove(key)) for key in keys]
