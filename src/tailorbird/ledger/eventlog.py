"""The tamper-evident log: an RFC 6962 Merkle tree of events, grown in the transaction that makes the change.

In: events, checkpoints. Out: entries, size, root. Must not know: what events mean, how checkpoints are signed.

There is one log for all tenants. Opened for a tenant it takes and shows that tenant's events alone; size, root and checkpoints, which
tell nothing about anybody's events, are those of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, insert, select, update

from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import Checkpoint, Event, LogEntry
from tailorbird.foundations.merkle import Frontier, leaf_hash
from tailorbird.ledger.rows import next_number, own, select_fields, text_of, value_of
from tailorbird.ledger.tables import checkpoints, log_entries, log_frontier


class Events:
    """Implements ``EventLog``; ``tenant`` None stands above tenants and sees everything."""

    def __init__(self, connection: Connection, tenant: str | None) -> None:
        self._connection = connection
        self._tenant = tenant

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size. Reads one row, however long the log. Raises InvalidInput, Forbidden."""
        frontier = self._frontier(lock=True)
        rows = []
        for event in events:
            own(self._tenant or event.tenant, event.tenant)
            body = _body_of(event)
            leaf = leaf_hash(body.encode())
            rows.append({"index": frontier.size, "leaf_hash": leaf.hex(), "tenant": event.tenant, "subject": event.subject, "body": body})
            frontier = frontier.append(leaf)
        if rows:
            self._connection.execute(insert(log_entries), rows)
            edge = [hashed.hex() for hashed in frontier.edge]
            self._connection.execute(update(log_frontier).values(size=frontier.size, edge=edge))
        return frontier.size

    def size(self) -> int:
        """How many entries the log has."""
        return self._frontier().size

    def root(self) -> str:
        """The root over all entries, in hex."""
        return self._frontier().root().hex()

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LogEntry]:
        """Entries ``start`` to ``stop`` (exclusive), in order, as a stream; a tenant's log leaves out those of others. Raises Corrupt."""
        asked = self._visible().where(log_entries.c.index >= start)
        asked = asked if stop is None else asked.where(log_entries.c.index < stop)
        return map(_entry, self._connection.execute(asked.execution_options(yield_per=500)))

    def about(self, subject: str) -> tuple[LogEntry, ...]:
        """Entries whose event has this subject, in order. Raises Corrupt."""
        return tuple(map(_entry, self._connection.execute(self._visible().where(log_entries.c.subject == subject))))

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Stores a signed checkpoint."""
        number = next_number(checkpoints.c.number)
        self._connection.execute(insert(checkpoints).values(checkpoint.model_dump() | {"number": number}))

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, oldest first."""
        rows = self._connection.execute(select_fields(checkpoints, Checkpoint).order_by(checkpoints.c.number))
        return tuple(value_of(Checkpoint, row) for row in rows)

    def _visible(self) -> Select[Any]:
        every = select(log_entries).order_by(log_entries.c.index)
        return every if self._tenant is None else every.where(log_entries.c.tenant == self._tenant)

    def _frontier(self, *, lock: bool = False) -> Frontier:
        stored = select(log_frontier.c.size, log_frontier.c.edge)
        row = self._connection.execute(stored.with_for_update() if lock else stored).one_or_none()
        if row is None:
            raise _no_frontier()
        try:
            return Frontier(row.size, tuple(map(bytes.fromhex, row.edge)))
        except (TypeError, ValueError):
            raise _no_frontier() from None


def _body_of(event: Event) -> str:
    """The event's canonical JSON. Raises InvalidInput for a number that would not be read back as it was written (beyond ±2⁵³)."""
    try:
        body = text_of(event)
        again = text_of(Event.model_validate_json(body))
    except ValueError:
        again = None
    if again is None or again != body:
        raise InvalidInput(
            f"a number of the event {event.kind} cannot be recorded exactly", "write large numbers as text", code="event_number"
        )
    return body


def _entry(row: Row[Any]) -> LogEntry:
    """Raises Corrupt for a body that is no event, and for columns beside it (by which entries are found) that say something else."""
    try:
        entry = LogEntry(index=row.index, leaf_hash=row.leaf_hash, event=Event.model_validate_json(row.body))
    except ValidationError:
        entry = None
    if entry is None or (entry.event.tenant, entry.event.subject) != (row.tenant, row.subject):
        raise Corrupt(f"entry {row.index} of the event log is not what was written", _RESTORE, code="log_corrupt")
    return entry


def _no_frontier() -> Corrupt:
    return Corrupt("the head of the event log is gone or cannot be read", _RESTORE, code="log_corrupt")


_RESTORE = "somebody changed the database outside tailorbird: restore it from a backup, then run tailorbird audit verify"
