"""Membership proofs: presence or absence of a key in a set, by a Merkle tree over sorted keys.

The leaf of a member is RFC 6962's over key ‖ content. Keys stand in ascending order, so a key is absent exactly when it falls between two
neighbours, before the first or after the last. A head is the root with the number of members: without the number, the last one could pass
for an inner one. Keys are salted (``key_of``), so that a proof tells nothing about members to those who lack the salt.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from tailorbird.crypto.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    LeafSpan,
    complete_subtrees,
    fold,
    inclusion_spans,
    leaf_hash,
    node_hash,
    node_hashes,
    verify_inclusion,
)
from tailorbird.domain.value import Value


class TreeHead(Value):
    """A set at one moment: the root (hex) over its members, and how many they are."""

    root: str
    size: int


class TreePlace(Value):
    """A member at its place in the order, with the path to the root. All hex."""

    index: int
    key: str
    content: str
    path: tuple[str, ...]


class Proof(Value):
    """That ``key`` is a member: then ``member`` is its place. Or that it is none: then ``before`` and ``after`` are its neighbours, without
    ``before`` it comes before the first, without ``after`` behind the last, without both the set is empty."""

    key: str
    member: TreePlace | None = None
    before: TreePlace | None = None
    after: TreePlace | None = None

    @property
    def present(self) -> bool:
        """What the proof claims."""
        return self.member is not None


def key_of(salt: bytes, name: str) -> bytes:
    """The salted key of a member: HMAC-SHA-256 (RFC 2104) of its name."""
    return hmac.new(salt, name.encode(), hashlib.sha256).digest()


def head_of(leaves: Sequence[bytes]) -> TreeHead:
    """The head over leaf hashes, level by level, so that a million of them take little memory beside themselves."""
    level = list(leaves)
    while len(level) > 1:
        above = list(node_hashes(level))
        level = above if len(level) % 2 == 0 else [*above, level[-1]]
    return TreeHead(root=(level[0] if level else EMPTY_ROOT).hex(), size=len(leaves))


class Members:
    """A set of members, each a key and a digest of its content, 32 bytes each. Raises ValueError for other lengths and keys twice."""

    def __init__(self, members: Iterable[tuple[bytes, bytes]]) -> None:
        self._members = sorted(members)
        self._keys = [key for key, _ in self._members]
        if any(len(part) != HASH_BYTES for member in self._members for part in member):
            raise ValueError("keys and contents are hashes of 32 bytes")
        if len(set(self._keys)) != len(self._keys):
            raise ValueError("a key stands in the set twice")
        self._levels = [[leaf_hash(key + content) for key, content in self._members]]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append([node_hash(*below[at : at + 2]) for at in range(0, len(below) - 1, 2)])

    @property
    def head(self) -> TreeHead:
        """The root over all members, and their number."""
        return head_of(self._levels[0])

    def prove(self, key: bytes) -> Proof:
        """That ``key`` is a member, or that it is none."""
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            return Proof(key=key.hex(), member=self._place(at))
        return Proof(
            key=key.hex(),
            before=self._place(at - 1) if at else None,
            after=self._place(at) if at < len(self._keys) else None,
        )

    def _place(self, index: int) -> TreePlace:
        key, content = self._members[index]
        path = tuple(self._root(span).hex() for span in inclusion_spans(index, len(self._keys)))
        return TreePlace(index=index, key=key.hex(), content=content.hex(), path=path)

    def _root(self, span: LeafSpan) -> bytes:
        return fold([self._levels[node.level][node.number] for node in complete_subtrees(span)])


def verify_membership(proof: Proof, head: TreeHead) -> bool:
    """True when ``proof`` shows what it claims of the set that ``head`` stands for. A malformed proof shows nothing."""
    try:
        return _is_member(proof, proof.member, head) if proof.member else _is_absent(proof, head)
    except ValueError:
        return False


def _is_member(proof: Proof, member: TreePlace, head: TreeHead) -> bool:
    return bytes.fromhex(member.key) == bytes.fromhex(proof.key) and proof.before is None and proof.after is None and _stands(member, head)


def _is_absent(proof: Proof, head: TreeHead) -> bool:
    before, after, key = proof.before, proof.after, bytes.fromhex(proof.key)
    if len(key) != HASH_BYTES or not all(_stands(place, head) for place in (before, after) if place is not None):
        return False
    if (before and bytes.fromhex(before.key) >= key) or (after and bytes.fromhex(after.key) <= key):
        return False
    if before is None and after is None:
        return head.size == 0 and bytes.fromhex(head.root) == EMPTY_ROOT
    following = 0 if before is None else before.index + 1
    return following == (head.size if after is None else after.index)


def _stands(place: TreePlace, head: TreeHead) -> bool:
    key, content = bytes.fromhex(place.key), bytes.fromhex(place.content)
    if len(key) != HASH_BYTES or len(content) != HASH_BYTES:
        return False
    path = [bytes.fromhex(node) for node in place.path]
    return verify_inclusion(leaf_hash(key + content), place.index, head.size, path, bytes.fromhex(head.root))
