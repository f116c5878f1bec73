"""Anchored rows: what the log says that each row of a tenant holds, kept for look-ups under the root in the log's head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from sqlalchemy import Connection

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, altered_nodes, anchored_row, differing_rows, rows_of_kind
from tailorbird.domain.event import AnchoredRow, LogHead
from tailorbird.domain.identity import Identity, Session, Tenant
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.deployment import Aliases
from tailorbird.ledger.event_log import Events
from tailorbird.ledger.identities import ApiKeys, Identities
from tailorbird.ledger.label_reviews import Judgements
from tailorbird.ledger.provenance import Decisions, Erasures, Secrets
from tailorbird.ledger.quota import StoredArtifacts
from tailorbird.ledger.records import Records
from tailorbird.ledger.releases import Looks, Releases, Splits
from tailorbird.ledger.rollouts import Rollouts
from tailorbird.ledger.row_mapping import select_fields, value_of
from tailorbird.ledger.runs import Runs
from tailorbird.ledger.stored_anchors import StoredAnchors
from tailorbird.ledger.tables import sessions, tenants
from tailorbird.system.clock import SystemClock


class Anchors:
    """Implements ``RowAnchors`` for ``tenant``."""

    def __init__(self, events: Events, connection: Connection, tenant: str, changes: RowChanges) -> None:
        self._book = AnchorBook(events, connection)
        self._tenant = tenant
        self._changes = changes

    def differing(self, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not. Raises Corrupt, NotFound."""
        return self._book.differing(self._tenant, self._changes.not_pending(self._tenant, rows))

    def all_of(self, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind, by name. Raises Corrupt, NotFound."""
        return self._book.all_of(self._tenant, kind)


class AnchorBook:
    """Implements ``RowAnchorBook``."""

    def __init__(self, events: Events, connection: Connection) -> None:
        self._events = events
        self._connection = connection

    def head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        return self._events.sealed_head()

    def differing(self, tenant: str, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not. Raises Corrupt, NotFound."""
        return differing_rows(StoredAnchors(self._connection), self.head().state, tenant, rows)

    def all_of(self, tenant: str, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind, by name. Raises Corrupt, NotFound."""
        return rows_of_kind(StoredAnchors(self._connection), self.head().state, tenant, kind)

    def anchored(self) -> Iterator[AnchoredRow]:
        """What is kept for look-ups."""
        return StoredAnchors(self._connection).all()

    def altered_nodes(self) -> int:
        """How many nodes of the tree over the anchored rows are not what those make. Raises Corrupt for one that cannot be read."""
        return altered_nodes(StoredAnchors(self._connection))

    def identities(self, tenant: str) -> tuple[Identity, ...]:
        """The identities that the table holds now, by name. Raises Corrupt."""
        return Identities(self._connection, tenant).all()

    def found(self, tenant: str) -> Iterator[AnchoredRow]:
        """The rows that the tables hold now. Raises Corrupt for one that cannot be read."""
        return found_rows(self._connection, tenant)


def found_rows(connection: Connection, tenant: str) -> Iterator[AnchoredRow]:
    """Every row of a tenant that is anchored where all is well, as its table holds it. Raises Corrupt."""
    yield from map(anchored_row, _values(connection, tenant))
    yield from (row for row in map(anchored_row, _groups(connection, tenant)) if row.digest is not None)


def _groups(connection: Connection, tenant: str) -> Iterator[RowGroup]:
    kept = (Runs, Looks, Splits, Judgements, Decisions, Secrets, Records, StoredArtifacts)
    repositories = (repository(connection, tenant) for repository in kept)
    yield from chain.from_iterable(repository.groups() for repository in repositories)
    yield from Erasures(connection, tenant, SystemClock()).groups()


def _values(connection: Connection, tenant: str) -> Iterator[Value]:
    for row in connection.execute(select_fields(tenants, Tenant).where(tenants.c.name == tenant)):
        yield value_of(Tenant, row)
    yield from Identities(connection, tenant).all()
    yield from ApiKeys(connection, tenant).all()
    for row in connection.execute(select_fields(sessions, Session).where(sessions.c.tenant == tenant)):
        yield value_of(Session, row)
    yield from Releases(connection, tenant).all()
    yield from Aliases(connection, tenant).all(stage=None)
    yield from Rollouts(connection, tenant).all()
