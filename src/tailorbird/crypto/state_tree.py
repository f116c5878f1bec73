"""State tree: a Merkle tree over the anchored rows of every tenant, whose root stands for all of them.

A row's place is SHA-256 over tenant and name. Its first 16 bits choose one of 65,536 buckets (level 0); sixteen neighbours make a node of
the level above, up to the root (level 4). A bucket's hash is over the places and digests in it, in order, so that presence,
absence and content of a row follow from one bucket and the siblings on its way to the root. What is empty has a hash of zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from tailorbird.crypto.merkle import HASH_BYTES, Node
from tailorbird.domain.value import Digest

LEVELS, _FANOUT = 4, 16
TOP = Node(LEVELS, 0)
_EMPTY = bytes(HASH_BYTES)
#: The root over no rows, in hex.
EMPTY_STATE = _EMPTY.hex()

#: Places (hex) and digests of the rows in a bucket.
Bucket = dict[str, Digest]


class StateStore(Protocol):
    """Where buckets and nodes are kept. Nothing that it answers is trusted: a wrong answer leads to another root."""

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        """The rows in these buckets; an empty one may be left out."""
        ...

    def nodes(self, nodes: Collection[Node]) -> dict[Node, bytes]:
        """The hashes of these nodes; an empty one is left out."""
        ...


def place_of(tenant: str, name: str) -> str:
    """The place of a row, in hex."""
    return hashlib.sha256(f"{tenant}\n{name}".encode()).hexdigest()


def bucket_of(place: str) -> int:
    """The bucket of a place."""
    return int(place[:4], 16)


def changed_nodes(store: StateStore, changed: Mapping[int, Bucket]) -> dict[Node, bytes]:
    """The hashes of all nodes that change with these buckets, up to the root."""
    found = {Node(0, number): _bucket_hash(rows) for number, rows in changed.items()}
    kept = store.nodes(_siblings(changed))
    return found | _fold(found, kept)


def state_root(store: StateStore, buckets: Mapping[int, Bucket]) -> str:
    """The root, in hex, that follows from these buckets and the hashes beside their ways up."""
    return changed_nodes(store, buckets).get(TOP, _EMPTY).hex() if buckets else store.nodes([TOP]).get(TOP, _EMPTY).hex()


def root_over(rows: Mapping[str, Digest]) -> str:
    """The root over all rows by place, made from nothing."""
    return nodes_over(rows).get(TOP, _EMPTY).hex()


def nodes_over(rows: Mapping[str, Digest]) -> dict[Node, bytes]:
    """Every node over all rows by place, made from nothing; empty ones are left out."""
    buckets: dict[int, Bucket] = {}
    for place, digest in rows.items():
        buckets.setdefault(bucket_of(place), {})[place] = digest
    leaves = {Node(0, number): _bucket_hash(found) for number, found in buckets.items()}
    return leaves | _fold(leaves, {})


def _siblings(buckets: Iterable[int]) -> set[Node]:
    """The nodes beside the ways of these buckets to the root, and those on them."""
    found, parents = set[Node](), {number // _FANOUT for number in buckets}
    for level in range(LEVELS):
        found |= {Node(level, parent * _FANOUT + child) for parent in parents for child in range(_FANOUT)}
        parents = {parent // _FANOUT for parent in parents}
    return found


def _fold(below: Mapping[Node, bytes], kept: Mapping[Node, bytes]) -> dict[Node, bytes]:
    """The nodes above ``below``; of what stands beside them the hashes in ``kept`` count."""
    made: dict[Node, bytes] = {}
    present = dict(below)
    for level in range(LEVELS):
        parents = {node.number // _FANOUT for node in present}
        above: dict[Node, bytes] = {}
        for parent in parents:
            children = [Node(level, parent * _FANOUT + child) for child in range(_FANOUT)]
            above[Node(level + 1, parent)] = _node_hash([present.get(child, kept.get(child, _EMPTY)) for child in children])
        made |= above
        present = above
    return made


def _bucket_hash(rows: Mapping[str, Digest]) -> bytes:
    if not rows:
        return _EMPTY
    hashed = hashlib.sha256(b"\x00")
    for place in sorted(rows):
        hashed.update(bytes.fromhex(place) + bytes.fromhex(rows[place].removeprefix("sha256:")))
    return hashed.digest()


def _node_hash(children: list[bytes]) -> bytes:
    return _EMPTY if not any(map(any, children)) else hashlib.sha256(b"\x01" + b"".join(children)).digest()
