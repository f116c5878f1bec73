"""The Merkle tree of RFC 6962 (SHA-256): roots, proofs, and a frontier to which leaves are added in O(log n).

In: leaf hashes (32 bytes each), in order. Out: roots, inclusion and consistency proofs, verdicts on proofs. Must not know: what a leaf
stands for, where the log lies.

Verifying follows RFC 9162 §2.1.3.2 and §2.1.4.2. A verdict is a bool: a proof that is malformed in any way is simply not a proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: Length of every hash here, in bytes.
HASH_BYTES = 32

#: The root of the tree without leaves.
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data): the hash of one entry. The prefix keeps a leaf from ever passing for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right): the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


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
        """The frontier after one more leaf hash: every full subtree that the leaf completes is folded into one."""
        edge, hashed = list(self.edge), leaf
        for _ in range(_trailing_ones(self.size)):
            hashed = node_hash(edge.pop(), hashed)
        return Frontier(self.size + 1, (*edge, hashed))

    def root(self) -> bytes:
        """The root over all leaves appended so far."""
        if not self.edge:
            return EMPTY_ROOT
        *larger, folded = self.edge
        for subtree in reversed(larger):
            folded = node_hash(subtree, folded)
        return folded


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1 over leaf hashes."""
    return _root(leaves, 0, len(leaves))


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(index, leaves) of RFC 6962 §2.1.1: the hashes that lead from leaf ``index`` to the root. Raises ValueError outside the tree."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} in a tree of {len(leaves)}")
    return tuple(_path(leaves, index, 0, len(leaves)))


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


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """PROOF(old_size, leaves) of RFC 6962 §2.1.2: that the tree of the first ``old_size`` leaves is a prefix of this one.

    Empty for ``old_size`` 0 and for the whole tree. Raises ValueError when the old tree is larger.
    """
    if not 0 <= old_size <= len(leaves):
        raise ValueError(f"a tree of {len(leaves)} leaves never had {old_size}")
    return tuple(_subproof(leaves, old_size, (0, len(leaves)), whole=True)) if old_size else ()


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """True when ``proof`` shows that the tree of ``new_size`` leaves only appended to the one of ``old_size``."""
    if not 0 <= old_size <= new_size:
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if old_size == new_size:
        return not proof and old_root == new_root
    if not proof:
        return False
    is_full = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if is_full else list(proof)
    return _climb_both(old_size, new_size, path) == (old_root, new_root)


def _climb_both(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The old and the new root that ``path`` leads to; None when it has the wrong length."""
    shift = _trailing_ones(old_size - 1)
    node, last = (old_size - 1) >> shift, (new_size - 1) >> shift
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            shift = _trailing_zeros(node)
            node, last = node >> shift, last >> shift
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return (old, new) if last == 0 else None


def _root(leaves: Sequence[bytes], start: int, stop: int) -> bytes:
    frontier = Frontier()
    for place in range(start, stop):
        frontier = frontier.append(leaves[place])
    return frontier.root()


def _path(leaves: Sequence[bytes], index: int, start: int, stop: int) -> Iterator[bytes]:
    if stop - start == 1:
        return
    middle = start + _split(stop - start)
    if index < middle:
        yield from _path(leaves, index, start, middle)
        yield _root(leaves, middle, stop)
    else:
        yield from _path(leaves, index, middle, stop)
        yield _root(leaves, start, middle)


def _subproof(leaves: Sequence[bytes], old: int, span: tuple[int, int], *, whole: bool) -> Iterator[bytes]:
    """SUBPROOF: ``old`` is the end of the old tree; ``whole`` is True while the old tree is known to be a full subtree already."""
    start, stop = span
    if old == stop:
        if not whole:
            yield _root(leaves, start, stop)
        return
    middle = start + _split(stop - start)
    if old <= middle:
        yield from _subproof(leaves, old, (start, middle), whole=whole)
        yield _root(leaves, middle, stop)
    else:
        yield from _subproof(leaves, old, (middle, stop), whole=False)
        yield _root(leaves, start, middle)


def _split(size: int) -> int:
    """The largest power of two below ``size`` (≥ 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _trailing_ones(number: int) -> int:
    return _trailing_zeros(number + 1)


def _trailing_zeros(number: int) -> int:
    """How often ``number`` can be halved; 0 for 0, which is already at the left edge."""
    return (number & -number).bit_length() - 1 if number else 0
