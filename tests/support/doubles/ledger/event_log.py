"""Event log with an RFC 6962 Merkle tree over its entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from support.doubles.ledger.stored_anchors import MemoryAnchorStore
from support.doubles.ledger.tables import SYSTEM, Repository, Table, Transaction, next_number, stored
from tailorbird.crypto.anchored_rows import EMPTY_STATE, update_anchors, with_changes
from tailorbird.crypto.log_verification import demand_included, event_body, event_of, salted
from tailorbird.crypto.merkle import Frontier, LeafSpan, consistency_spans, inclusion_spans, leaf_hash, root
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import Checkpoint, Event, LogEntry, LogHead, is_begun_digest
from tailorbird.ports.events import LogSealer

#: Canonical JSON of events by index.
LOG_ENTRIES: Table[int, str] = Table("log_entries")


@dataclass(frozen=True)
class _Head:
    """Right edge of the tree, root over the anchored rows, signature."""

    frontier: Frontier = field(default_factory=Frontier)
    state: str = EMPTY_STATE
    seal: str = ""

    def head(self) -> LogHead:
        """What is signed."""
        return LogHead(size=self.frontier.size, root=self.frontier.root().hex(), state=self.state)


#: One row.
LOG_FRONTIER: Table[str, _Head] = Table("log_frontier")
CHECKPOINTS: Table[int, Checkpoint] = Table("checkpoints")

_EDGE = "edge"


class MemoryEvents(Repository):
    """Implements ``EventLog`` and, above tenants, ``AuditLog``: there it sees everything."""

    def __init__(self, transaction: Transaction, tenant: str = SYSTEM, sealer: LogSealer | None = None) -> None:
        super().__init__(transaction, tenant)
        self._sealer = sealer
        #: The head that this transaction leaves, where it has changed it.
        self._written: LogHead | None = None

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size. Raises InvalidInput, Forbidden."""
        for event in events:
            self._own(self._tenant and event.tenant)
        before = self._head()
        self._check_appendable(before)
        told, changes = with_changes(events, self._transaction.unanchored)
        bodies = [event_body(salted(event)) for event in told]
        entries = self._transaction.change(LOG_ENTRIES, SYSTEM)
        entries.update(enumerate(bodies, start=len(entries)))
        after, _ = before.frontier.extend(leaf_hash(body.encode()) for body in bodies)
        anchors = MemoryAnchorStore(self._transaction)
        updated = update_anchors(anchors, before.state, changes)
        anchors.write(updated)
        head = LogHead(size=after.size, root=after.root().hex(), state=updated.state)
        self._transaction.change(LOG_FRONTIER, SYSTEM)[_EDGE] = _Head(after, updated.state, self._seal(before, head))
        self._written = head
        return after.size

    def sealed_head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        stored_head = self._head()
        self._check(stored_head)
        return stored_head.head()

    def check_writable(self) -> None:
        """Raises Corrupt, NotFound where an entry could not be appended."""
        stored_head = self._head()
        self._check_appendable(stored_head)
        self._seal(stored_head, stored_head.head())

    def committed(self) -> None:
        """Called once the transaction has committed."""
        if self._sealer is not None and self._written is not None:
            self._sealer.remember(self._written)

    def anchor_rest(self, at: datetime) -> None:
        """Anchors, by an event of its own, what was changed in this transaction and no event told of."""
        for tenant in self._transaction.unanchored.tenants():
            self.append([Event(kind="rows.changed", tenant=tenant, actor="ledger", subject=tenant, at=at)])

    def _check(self, found: _Head) -> None:
        if self._sealer is not None and self._written is None and found.frontier.size:
            self._sealer.check(found.head(), found.seal)

    def _check_appendable(self, found: _Head) -> None:
        self._check(found)
        if self._sealer is not None and self._written is None:
            self._sealer.check_growth(found.head())

    def _seal(self, before: _Head, head: LogHead) -> str:
        if self._sealer is None or not head.size:
            return ""
        return self._sealer.seal(head, was_sealed=bool(before.seal), is_new=not before.seal and not self.checkpoints())

    def size(self) -> int:
        """How many entries the log has."""
        return self._frontier().size

    def root(self) -> str:
        """The root over all entries, in hex."""
        return self._frontier().root().hex()

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LogEntry]:
        """Entries ``start`` to ``stop`` (exclusive), in order; a tenant's log leaves out those of others."""
        bodies = self._transaction.rows(LOG_ENTRIES, SYSTEM)
        for index, body in bodies.items():
            if index < start or (stop is not None and index >= stop):
                continue
            try:
                event = event_of(body)
            except ValueError:
                raise _corrupt(f"entry {index} of the event log is not what was written") from None
            if self._tenant in (SYSTEM, event.tenant):
                yield LogEntry(index=index, leaf_hash=leaf_hash(body.encode()).hex(), event=event, body=body)

    def about(self, subject: str) -> tuple[LogEntry, ...]:
        """Entries whose event has this subject, in order, each found to be in the log."""
        entries = tuple(entry for entry in self.entries() if entry.event.subject == subject)
        if entries:
            demand_included(entries, self.sealed_head(), lambda spans: tuple(map(bytes.fromhex, self._roots(spans))))
        return entries

    def latest(self, limit: int = 50, before: int | None = None, subject: str = "") -> tuple[LogEntry, ...]:
        """At most ``limit`` entries, newest first; with ``before``, only those with a smaller index; with ``subject``, only those about it,
        or what begins so where it is a digest cut short."""
        is_begun = is_begun_digest(subject)
        named = (e for e in self.entries(stop=before) if e.event.subject == subject or (is_begun and e.event.subject.startswith(subject)))
        return tuple(named if subject else self.entries(stop=before))[::-1][:limit]

    def inclusion(self, index: int, size: int | None = None) -> tuple[str, ...]:
        """The RFC 6962 audit path of entry ``index`` in the tree of ``size`` (default: all). Raises InvalidInput."""
        whole = self._tree_size(size)
        if not 0 <= index < whole:
            raise _outside(f"there is no entry {index} in a log of {whole}")
        return self._roots(inclusion_spans(index, whole))

    def consistency(self, first: int, second: int | None = None) -> tuple[str, ...]:
        """The RFC 6962 consistency proof from the tree of ``first`` to that of ``second`` (default: all). Raises InvalidInput."""
        whole = self._tree_size(second)
        if not 0 <= first <= whole:
            raise _outside(f"a log of {whole} entries does not continue one of {first}")
        return self._roots(consistency_spans(first, whole))

    def root_at(self, size: int) -> str:
        """The root of the tree of the first ``size`` entries, in hex. Raises InvalidInput."""
        return self._roots([LeafSpan(0, self._tree_size(size))])[0]

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Stores a signed checkpoint."""
        rows = self._transaction.change(CHECKPOINTS, SYSTEM)
        rows[next_number(rows)] = stored(checkpoint)

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, oldest first."""
        return tuple(self._transaction.rows(CHECKPOINTS, SYSTEM).values())

    def _head(self) -> _Head:
        return self._transaction.rows(LOG_FRONTIER, SYSTEM).get(_EDGE, _Head())

    def _frontier(self) -> Frontier:
        return self._head().frontier

    def _tree_size(self, size: int | None) -> int:
        whole = self.size()
        if size is not None and not 0 <= size <= whole:
            raise _outside(f"the log never had {size} entries: it has {whole}")
        return whole if size is None else size

    def _roots(self, spans: Sequence[LeafSpan]) -> tuple[str, ...]:
        bodies = self._transaction.rows(LOG_ENTRIES, SYSTEM)
        try:
            return tuple(root([leaf_hash(bodies[index].encode()) for index in range(*span)]).hex() for span in spans)
        except KeyError:
            raise _corrupt("a hash of the event log is gone or cannot be read") from None


def _corrupt(what: str) -> Corrupt:
    return Corrupt(what, "somebody changed the record outside tailorbird: restore it from a backup", code="log_corrupt")


def _outside(what: str) -> InvalidInput:
    return InvalidInput(what, "ask for what lies within the log: tailorbird audit verify tells its size", code="log_outside")
