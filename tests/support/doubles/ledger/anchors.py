"""Anchored rows: what the log says that each row of a tenant holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from support.doubles.ledger.deployment import ROLLOUTS, MemoryAliases
from support.doubles.ledger.event_log import MemoryEvents
from support.doubles.ledger.identities import API_KEYS, IDENTITIES, SESSIONS
from support.doubles.ledger.label_reviews import MemoryJudgements
from support.doubles.ledger.provenance import MemoryDecisions, MemoryErasures, MemorySecrets
from support.doubles.ledger.quota import MemoryStorage
from support.doubles.ledger.records import MemoryRecords
from support.doubles.ledger.releases import RELEASES, MemoryLooks, MemorySplits
from support.doubles.ledger.runs import MemoryRuns
from support.doubles.ledger.stored_anchors import MemoryAnchorStore
from support.doubles.ledger.tables import SYSTEM, Table, Transaction
from support.doubles.ledger.tenants import TENANTS
from tailorbird.crypto.anchored_rows import RowGroup, altered_nodes, anchored_row, differing_rows, rows_of_kind
from tailorbird.domain.event import AnchoredRow, LogHead
from tailorbird.domain.identity import Identity
from tailorbird.domain.value import Digest, Value
from tailorbird.system.clock import SystemClock


class MemoryAnchorBook:
    """Implements ``RowAnchorBook``."""

    def __init__(self, transaction: Transaction, events: MemoryEvents) -> None:
        self._transaction = transaction
        self._events = events

    def head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        return self._events.sealed_head()

    def differing(self, tenant: str, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not."""
        return differing_rows(MemoryAnchorStore(self._transaction), self.head().state, tenant, rows)

    def all_of(self, tenant: str, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind, by name."""
        return rows_of_kind(MemoryAnchorStore(self._transaction), self.head().state, tenant, kind)

    def anchored(self) -> Iterator[AnchoredRow]:
        """What is kept for look-ups."""
        return MemoryAnchorStore(self._transaction).all()

    def altered_nodes(self) -> int:
        """How many nodes of the tree over the anchored rows are not what those make."""
        return altered_nodes(MemoryAnchorStore(self._transaction))

    def identities(self, tenant: str) -> tuple[Identity, ...]:
        """The identities that the table holds now, by name."""
        rows = self._transaction.rows(IDENTITIES, tenant)
        return tuple(rows[name] for name in sorted(rows))

    def found(self, tenant: str) -> Iterator[AnchoredRow]:
        """The rows that the tables hold now."""
        yield from map(anchored_row, self._values(tenant))
        yield from (row for row in map(anchored_row, self._groups(tenant)) if row.digest is not None)

    def _groups(self, tenant: str) -> Iterator[RowGroup]:
        kept = (MemoryRuns, MemoryLooks, MemorySplits, MemoryJudgements, MemoryDecisions, MemorySecrets, MemoryRecords, MemoryStorage)
        yield from chain.from_iterable(repository(self._transaction, tenant).groups() for repository in kept)
        yield from MemoryErasures(self._transaction, tenant, SystemClock()).groups()

    def _values(self, tenant: str) -> Iterator[Value]:
        known = self._transaction.rows(TENANTS, SYSTEM).get(tenant)
        if known is not None:
            yield known
        tables: tuple[Table[str, Any], ...] = (IDENTITIES, API_KEYS, SESSIONS, RELEASES)
        for table in tables:
            yield from self._transaction.rows(table, tenant).values()
        yield from MemoryAliases(self._transaction, tenant).all(stage=None)
        yield from self._transaction.rows(ROLLOUTS, tenant).values()


class MemoryAnchors:
    """Implements ``RowAnchors`` for ``tenant``."""

    def __init__(self, transaction: Transaction, events: MemoryEvents, tenant: str) -> None:
        self._book = MemoryAnchorBook(transaction, events)
        self._tenant = tenant
        self._changes = transaction.unanchored

    def differing(self, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not."""
        return self._book.differing(self._tenant, self._changes.not_pending(self._tenant, rows))

    def all_of(self, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind, by name."""
        return self._book.all_of(self._tenant, kind)
