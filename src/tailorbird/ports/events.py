"""The tamper-evident log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tailorbird.domain.event import Checkpoint, Event, LogEntry


class EventLog(Protocol):
    """An RFC 6962 Merkle log of events, as one tenant sees it. Appending happens in the caller's transaction."""

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size. Raises InvalidInput for a number that would
        not be read back as it was."""
        ...

    def size(self) -> int:
        """How many entries the log has."""
        ...

    def root(self) -> str:
        """The Merkle tree head over all entries, in hex."""
        ...

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LogEntry]:
        """Entries ``start`` (0-based) to ``stop`` (exclusive), in order."""
        ...

    def about(self, subject: str) -> tuple[LogEntry, ...]:
        """Entries whose event has this subject, in order."""
        ...

    def latest(self, limit: int = 50, before: int | None = None) -> tuple[LogEntry, ...]:
        """At most ``limit`` entries that are visible here, newest first; with ``before``, only those with a smaller index."""
        ...


class AuditLog(EventLog, Protocol):
    """The whole log, above tenants: with its proofs, and the checkpoints that were signed of it."""

    def inclusion(self, index: int, size: int | None = None) -> tuple[str, ...]:
        """RFC 6962 audit path (hashes in hex, leaf upwards) of entry ``index`` in the tree of ``size``, or of all. Raises InvalidInput."""
        ...

    def consistency(self, first: int, second: int | None = None) -> tuple[str, ...]:
        """RFC 6962 consistency proof (hashes in hex) between the trees of two sizes (default: up to all). Raises InvalidInput."""
        ...

    def root_at(self, size: int) -> str:
        """The root of the tree of the first ``size`` entries, in hex. Raises InvalidInput."""
        ...

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Stores a signed checkpoint."""
        ...

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, oldest first."""
        ...
