"""Proofs of RFC 6962 made from all leaves, and the verifier of consistency: what an auditor's own program does (RFC 9162 §2.1.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.crypto.merkle import EMPTY_ROOT, consistency_spans, inclusion_spans, node_hash, root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(index, leaves) of RFC 6962 §2.1.1: the hashes that lead from leaf ``index`` to the root. Raises ValueError outside the tree."""
    return tuple(root(leaves[start:stop]) for start, stop in inclusion_spans(index, len(leaves)))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """PROOF(old_size, leaves) of RFC 6962 §2.1.2: that the tree of the first ``old_size`` leaves is a prefix of this one.

    Empty for ``old_size`` 0 and for the whole tree. Raises ValueError when the old tree is larger.
    """
    return tuple(root(leaves[start:stop]) for start, stop in consistency_spans(old_size, len(leaves)))


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
    shift = _trailing_zeros(old_size)
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


def _trailing_zeros(number: int) -> int:
    """How often ``number`` can be halved; 0 for 0."""
    return (number & -number).bit_length() - 1 if number else 0
