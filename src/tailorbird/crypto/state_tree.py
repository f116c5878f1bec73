"""State tree: a Merkle tree over the anchored rows of every tenant, whose root stands for all of them.

A row's place is SHA-256 over tenant and name. Its first 16 bits choose one of 65,536 buckets (level 0); sixteen neighbours make a node of
the level above, up to the root (level 4). A bucket's hash is over the places and digests in it, in order, so that presence,
absence and content of a row follow from one bucket and the siblings on its way to the root. What is empty has a hash of zeros.

The hashes below a node follow from its own. So a process remembers, by a node's hash, what was once proven to lie below it: whatever root
comes next, only what has changed is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from itertools import chain
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

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The hashes of the nodes of a level with these numbers; an empty one is left out."""
        ...


def place_of(tenant: str, name: str) -> str:
    """The place of a row, in hex."""
    return hashlib.sha256(f"{tenant}\n{name}".encode()).hexdigest()


def bucket_of(place: str) -> int:
    """The bucket of a place."""
    return int(place[:4], 16)


class ProvenNodes:
    """The nodes on the ways from the root down to some buckets, each proven by the hash above it."""

    def __init__(self, leaves: Mapping[int, bytes], below: Mapping[Node, bytes]) -> None:
        self._leaves = leaves
        self._below = below

    def holds(self, buckets: Mapping[int, Bucket]) -> bool:
        """Whether these buckets, all of them asked for, are those that the root was made from."""
        return all(_bucket_hash(rows) == self._leaves[number] for number, rows in buckets.items())

    def changed(self, buckets: Mapping[int, Bucket]) -> dict[Node, bytes]:
        """The hashes of all nodes that change with these buckets, up to the root."""
        made = {Node(0, number): _bucket_hash(rows) for number, rows in buckets.items()}
        level_hashes = {node.number: hashed for node, hashed in made.items()}
        for level in range(1, LEVELS + 1):
            children = {number // _FANOUT: bytearray(self._below[Node(level, number // _FANOUT)]) for number in level_hashes}
            for number, hashed in level_hashes.items():
                at = number % _FANOUT * HASH_BYTES
                children[number // _FANOUT][at : at + HASH_BYTES] = hashed
            level_hashes = {number: _remembered(_node_hash(joined), bytes(joined)) for number, joined in children.items()}
            made |= {Node(level, number): hashed for number, hashed in level_hashes.items()}
        return made


def proven_nodes(store: StateStore, state: str, numbers: Collection[int]) -> ProvenNodes | None:
    """The nodes on the ways to the buckets ``numbers`` under the root ``state`` (hex); None where what is stored does not lead to it."""
    hashes, below = {0: bytes.fromhex(state)}, dict[Node, bytes]()
    for level in range(LEVELS, 0, -1):
        found = _children(store, level, hashes)
        if found is None:
            return None
        below |= {Node(level, number): joined for number, joined in found.items()}
        wanted = {number // _FANOUT ** (level - 1) for number in numbers}
        places = ((number, number % _FANOUT * HASH_BYTES) for number in wanted)
        hashes = {number: bytes(found[number // _FANOUT][at : at + HASH_BYTES]) for number, at in places}
    return ProvenNodes(hashes, below)


def _children(store: StateStore, level: int, hashes: Mapping[int, bytes]) -> dict[int, bytes] | None:
    """The joined hashes below each node of ``level``, which has the hash given for it; None where what is stored has another."""
    found = {number: joined for number, hashed in hashes.items() if (joined := _NOTHING if hashed == _EMPTY else _proven.get(hashed))}
    unknown = hashes.keys() - found.keys()
    below = {number: range(number * _FANOUT, (number + 1) * _FANOUT) for number in unknown}
    stored = store.nodes(level - 1, [*chain.from_iterable(below.values())]) if unknown else {}
    for number, children in below.items():
        joined = b"".join([stored.get(child, _EMPTY) for child in children])
        if _node_hash(joined) != hashes[number]:
            return None
        found[number] = joined
        _remembered(hashes[number], joined)
    return found


def _remembered(hashed: bytes, joined: bytes) -> bytes:
    if len(_proven) >= _MOST_PROVEN:
        _proven.clear()
    if hashed != _EMPTY:
        _proven[hashed] = joined
    return hashed


#: What lies below an empty node. What was proven to lie below others, by their hashes: that of a whole tree takes 3 MB.
_NOTHING = _EMPTY * _FANOUT
_proven: dict[bytes, bytes] = {}
_MOST_PROVEN = 16_384


def root_over(rows: Mapping[str, Digest]) -> str:
    """The root over all rows by place, made from nothing."""
    return nodes_over(rows).get(TOP, _EMPTY).hex()


def nodes_over(rows: Mapping[str, Digest]) -> dict[Node, bytes]:
    """Every node over all rows by place, made from nothing; empty ones are left out."""
    buckets: dict[int, Bucket] = {}
    for place, digest in rows.items():
        buckets.setdefault(bucket_of(place), {})[place] = digest
    leaves = {Node(0, number): _bucket_hash(found) for number, found in buckets.items()}
    return leaves | _fold(leaves)


def _fold(below: Mapping[Node, bytes]) -> dict[Node, bytes]:
    """The nodes above ``below``, beside which nothing stands."""
    made: dict[Node, bytes] = {}
    present = dict(below)
    for level in range(LEVELS):
        parents = {node.number // _FANOUT for node in present}
        present = {
            Node(level + 1, parent): _node_hash(
                b"".join(present.get(Node(level, parent * _FANOUT + child), _EMPTY) for child in range(_FANOUT))
            )
            for parent in parents
        }
        made |= present
    return made


def _bucket_hash(rows: Mapping[str, Digest]) -> bytes:
    if not rows:
        return _EMPTY
    hashed = hashlib.sha256(b"\x00")
    for place in sorted(rows):
        hashed.update(bytes.fromhex(place) + bytes.fromhex(rows[place].removeprefix("sha256:")))
    return hashed.digest()


def _node_hash(joined: bytes | bytearray) -> bytes:
    return _EMPTY if not any(joined) else hashlib.sha256(b"\x01" + joined).digest()
