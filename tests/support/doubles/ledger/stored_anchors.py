"""Tables of the anchored rows: rows by bucket, and the nodes of the state tree above them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from support.doubles.ledger.tables import SYSTEM, Table, Transaction
from tailorbird.crypto.anchored_rows import AnchorUpdate, Bucket, bucket_of, place_of
from tailorbird.crypto.merkle import Node
from tailorbird.domain.event import AnchoredRow
from tailorbird.domain.value import Digest

#: Digests by bucket, and in it by tenant and name.
ANCHORED_ROWS: Table[int, dict[tuple[str, str], Digest]] = Table("anchored_rows")
ANCHOR_NODES: Table[Node, bytes] = Table("anchor_nodes")


class MemoryAnchorStore:
    """Implements ``AnchorStore``."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        """The rows in these buckets."""
        rows = self._transaction.rows(ANCHORED_ROWS, SYSTEM)
        return {number: {place_of(*key): digest for key, digest in rows.get(number, {}).items()} for number in numbers}

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The hashes of the nodes of a level with these numbers."""
        kept = self._transaction.rows(ANCHOR_NODES, SYSTEM)
        return {number: kept[node] for number in numbers if (node := Node(level, number)) in kept}

    def names(self, tenant: str) -> tuple[str, ...]:
        """The names of all anchored rows of a tenant."""
        return tuple(row.name for row in self.all() if row.tenant == tenant)

    def all(self) -> Iterator[AnchoredRow]:
        """Every anchored row."""
        for rows in self._transaction.rows(ANCHORED_ROWS, SYSTEM).values():
            for (tenant, name), digest in rows.items():
                yield AnchoredRow(tenant=tenant, name=name, digest=digest)

    def all_nodes(self) -> Mapping[Node, bytes]:
        """The hash of every node."""
        return self._transaction.rows(ANCHOR_NODES, SYSTEM)

    def write(self, update: AnchorUpdate) -> None:
        """Keeps what an append has changed."""
        buckets = self._transaction.change(ANCHORED_ROWS, SYSTEM)
        for key, digest in update.rows.items():
            number = bucket_of(place_of(*key))
            rows = {known: held for known, held in buckets.get(number, {}).items() if known != key}
            buckets[number] = rows if digest is None else rows | {key: digest}
        self._transaction.change(ANCHOR_NODES, SYSTEM).update(update.nodes)
