"""Merkle tree of RFC 6962 (SHA-256): roots, proofs, and a frontier to which leaves are added in O(log n).

A proof is a list of roots over spans of leaves, and every such span falls into a few complete subtrees (``complete_subtrees``). Whoever
keeps the hashes of complete subtrees, which never change, answers any proof with a few look-ups.

Verifying follows RFC 9162 §2.1.3.2 and §2.1.4.2. A verdict is a bool: a proof that is malformed in any way is simply not a proof.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tailorbird.domain.value import Value

#: Length of every hash here, in bytes.
HASH_BYTES = 32

#: The root of the tree without leaves.
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data): the hash of one entry. The prefix keeps a leaf from ever passing for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def leaf_hashes(data: Iterable[bytes]) -> Iterator[bytes]:
    """``leaf_hash`` of each."""
    sha256 = hashlib.sha256
    return (sha256(b"\x00" + entry).digest() for entry in data)


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right): the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class LeafSpan(NamedTuple):
    """Leaves ``start`` to ``stop`` (exclusive)."""

    start: int
    stop: int


class Node(NamedTuple):
    """A complete subtree by its place: leaves ``number * 2**level`` to ``(number + 1) * 2**level`` (exclusive)."""

    level: int
    number: int


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that a growing tree must remember: its size, and the roots of the full subtrees along its right edge, largest first.

    There is one such root for every set bit of ``size``. Raises ValueError when the two do not fit.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.edge) != self.size.bit_count() or any(len(h) != HASH_BYTES for h in self.edge):
            raise ValueError(f"{len(self.edge)} hashes cannot be the right edge of a tree of {self.size} leaves")

    def append(self, leaf: bytes) -> Frontier:
        """The frontier after one more leaf hash."""
        return self.extend((leaf,))[0]

    def extend(self, leaves: Iterable[bytes]) -> tuple[Frontier, dict[Node, bytes]]:
        """The frontier after more leaf hashes; and the complete subtrees of two and more leaves that these finish, with their roots."""
        size, edge, finished = self.size, list(self.edge), {}
        for hashed in leaves:
            for level in range(1, _trailing_zeros(size + 1) + 1):
                hashed = node_hash(edge.pop(), hashed)
                finished[Node(level, size >> level)] = hashed
            edge.append(hashed)
            size += 1
        return Frontier(size, tuple(edge)), finished

    def root(self) -> bytes:
        """The root over all leaves appended so far."""
        return fold(self.edge)


def node_hashes(level: Sequence[bytes]) -> Iterator[bytes]:
    """``node_hash`` of the first two, of the next two, and so on; what is left alone at the end is left out."""
    sha256, each = hashlib.sha256, iter(level)
    return (sha256(b"\x01" + left + right).digest() for left, right in zip(each, each, strict=False))


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1 over leaf hashes."""
    return Frontier().extend(leaves)[0].root()


def fold(subtrees: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that follow each other, largest first (see ``complete_subtrees``)."""
    if not subtrees:
        return EMPTY_ROOT
    *larger, folded = subtrees
    for subtree in reversed(larger):
        folded = node_hash(subtree, folded)
    return folded


def complete_subtrees(span: LeafSpan) -> tuple[Node, ...]:
    """The complete subtrees that make up a span of a proof, largest first: one for every set bit of its length."""
    nodes, start = [], span.start
    for level in reversed(range((span.stop - span.start).bit_length())):
        if (span.stop - span.start) >> level & 1:
            nodes.append(Node(level, start >> level))
            start += 1 << level
    return tuple(nodes)


def inclusion_spans(index: int, size: int) -> tuple[LeafSpan, ...]:
    """The spans whose roots are the inclusion proof of leaf ``index`` in a tree of ``size``. Raises ValueError outside the tree."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    return tuple(_path(index, LeafSpan(0, size)))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """True when ``proof`` shows that leaf hash ``leaf`` stands at ``index`` in the tree of ``size`` leaves with the root ``expected``."""
    if not 0 <= index < size:
        return False
    node, last, hashed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            hashed = node_hash(sibling, hashed)
            shift = _trailing_zeros(node)
            node, last = node >> shift, last >> shift
        else:
            hashed = node_hash(hashed, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and hashed == expected


def consistency_spans(old_size: int, new_size: int) -> tuple[LeafSpan, ...]:
    """The spans whose roots are the consistency proof between trees of two sizes. Raises ValueError when the old tree is larger."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} leaves never had {old_size}")
    return tuple(_subproof(old_size, LeafSpan(0, new_size), whole=True)) if old_size else ()


def _path(index: int, span: LeafSpan) -> Iterator[LeafSpan]:
    start, stop = span
    if stop - start == 1:
        return
    middle = start + _split(stop - start)
    left, right = LeafSpan(start, middle), LeafSpan(middle, stop)
    inside, beside = (left, right) if index < middle else (right, left)
    yield from _path(index, inside)
    yield beside


def _subproof(old: int, span: LeafSpan, *, whole: bool) -> Iterator[LeafSpan]:
    """SUBPROOF: ``old`` is the end of the old tree; ``whole`` is True while the old tree is known to be a full subtree already."""
    start, stop = span
    if old == stop:
        if not whole:
            yield span
        return
    middle = start + _split(stop - start)
    left, right = LeafSpan(start, middle), LeafSpan(middle, stop)
    if old <= middle:
        yield from _subproof(old, left, whole=whole)
        yield right
    else:
        yield from _subproof(old, right, whole=False)
        yield left


def _split(size: int) -> int:
    """The largest power of two below ``size`` (≥ 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _trailing_zeros(number: int) -> int:
    """How often ``number`` can be halved; 0 for 0, which is already at the left edge."""
    return (number & -number).bit_length() - 1 if number else 0


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
