"""Anchored rows: what the log says that each row of a tenant holds, kept for look-ups under the root in the log's head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

from tailorbird.crypto.anchored_rows import RowChanges, altered_nodes, anchored_row, differing_rows, rows_of_kind
from tailorbird.domain.event import AnchoredRow, LogHead
from tailorbird.domain.identity import Identity, Session, Tenant
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.event_log import Events, StoredAnchors
from tailorbird.ledger.releases import Aliases, Judgements, Releases
from tailorbird.ledger.repository import Repository, select_fields
from tailorbird.ledger.runs import Decisions, Looks, Records, Runs, Splits
from tailorbird.ledger.tables import sessions, tenants
from tailorbird.ledger.tenants import ApiKeys, Erasures, Identities, Secrets, StoredArtifacts
from tailorbird.ledger.traffic import Rollouts

#: Repositories whose rows are anchored in groups.
_GROUPED = (Runs, Looks, Splits, Judgements, Decisions, Secrets, Records, StoredArtifacts, Erasures)


class Anchors:
    """The rows of one tenant as the log anchors them."""

    def __init__(self, events: Events, connection: Connection, tenant: str, changes: RowChanges) -> None:
        self._book = AnchorBook(events, connection)
        self._tenant = tenant
        self._changes = changes

    def differing(self, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not. Raises Corrupt, NotFound."""
        return self._book.differing(self._tenant, self._changes.not_pending(self._tenant, rows))

    def all_of(self, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind, by name. Raises Corrupt, NotFound."""
        return rows_of_kind(StoredAnchors(self._book.connection), self._book.head().state, self._tenant, kind)


class AnchorBook:
    """System repository: the anchored rows of every tenant."""

    def __init__(self, events: Events, connection: Connection) -> None:
        self._events = events
        self.connection = connection

    def head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        return self._events.sealed_head()

    def differing(self, tenant: str, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` that the log anchors otherwise, or not. Raises Corrupt, NotFound."""
        return differing_rows(StoredAnchors(self.connection), self.head().state, tenant, rows)

    def anchored(self) -> Iterator[AnchoredRow]:
        """What is kept for look-ups."""
        return StoredAnchors(self.connection).all()

    def altered_nodes(self) -> int:
        """How many nodes of the tree over the anchored rows are not what those make. Raises Corrupt for one that cannot be read."""
        return altered_nodes(StoredAnchors(self.connection))

    def identities(self, tenant: str) -> tuple[Identity, ...]:
        """The identities that the table holds now, by name. Raises Corrupt."""
        return Identities(self.connection, tenant).all()

    def found(self, tenant: str) -> Iterator[AnchoredRow]:
        """Every row of a tenant that should be anchored, as its table holds it now. Raises Corrupt for one that cannot be read."""
        at = (self.connection, tenant)
        rows = Repository(*at)
        values: tuple[Value, ...] = (
            *rows._many(Tenant, select_fields(tenants, Tenant).where(tenants.c.name == tenant)),
            *Identities(*at).all(),
            *ApiKeys(*at).all(),
            *rows._many(Session, rows._rows(sessions, Session)),
            *Releases(*at).all(),
            *Aliases(*at).all(stage=None),
            *Rollouts(*at).all(),
        )
        yield from map(anchored_row, values)
        groups = (anchored_row(group) for repository in _GROUPED for group in repository(*at).groups())
        yield from (row for row in groups if row.digest is not None)
