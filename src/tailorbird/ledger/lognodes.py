"""Hashes of complete subtrees of the event log, kept so that a proof costs a few look-ups and not a walk over the log.

In: subtrees as the log finishes them. Out: roots over spans of the log. Must not know: what an event is, what a proof proves.

Of the levels of the tree every ``STRIDE``-th is kept, which adds one row to sixteen entries and keeps appending fast; the leaves are the
level 0 and stand with the entries. What lies between two kept levels is hashed again from at most ``2**(STRIDE - 1)`` hashes. None of
this is trusted when the log is verified: it only makes proofs, and a wrong hash makes a proof that does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from sqlalchemy import Connection, insert, select, tuple_

from tailorbird.foundations.merkle import Node, Span, complete_subtrees, fold, root
from tailorbird.ledger.tables import log_entries, log_nodes

#: Every how many levels the hashes are kept. Fixed for good: it is what ``log_nodes`` of every database holds.
STRIDE = 4


def keep(connection: Connection, finished: Mapping[Node, bytes]) -> None:
    """Keeps those of the finished subtrees that lie at a kept level."""
    rows = [{"level": level, "number": number, "hash": found.hex()} for (level, number), found in finished.items() if level % STRIDE == 0]
    if rows:
        connection.execute(insert(log_nodes), rows)


def roots(connection: Connection, spans: Sequence[Span]) -> tuple[bytes, ...]:
    """The root over each span of a proof, with two look-ups for all of them. Raises KeyError or ValueError when a hash is gone or none."""
    places = [complete_subtrees(span) for span in spans]
    kept = _look_up(connection, {below for nodes in places for node in nodes for below in _kept_below(node)})
    return tuple(fold([root([kept[below] for below in _kept_below(node)]) for node in nodes]) for nodes in places)


def _kept_below(node: Node) -> tuple[Node, ...]:
    """The nodes of the highest kept level, at or below the level of ``node``, that make it up."""
    depth = node.level % STRIDE
    return tuple(Node(node.level - depth, number) for number in range(node.number << depth, (node.number + 1) << depth))


def _look_up(connection: Connection, nodes: Set[Node]) -> dict[Node, bytes]:
    leaves = [node.number for node in nodes if node.level == 0]
    inner = [node for node in nodes if node.level > 0]
    found: dict[Node, bytes] = {}
    if leaves:
        of_entries = select(log_entries.c.index, log_entries.c.leaf_hash).where(log_entries.c.index.in_(leaves))
        found |= {Node(0, index): bytes.fromhex(hashed) for index, hashed in connection.execute(of_entries)}
    if inner:
        kept = select(log_nodes).where(tuple_(log_nodes.c.level, log_nodes.c.number).in_(inner))
        found |= {Node(level, number): bytes.fromhex(hashed) for level, number, hashed in connection.execute(kept)}
    return found
