"""The tamper-evident log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tailorbird.domain.event import Checkpoint, Event, LogEntry


class EventLog(Protocol):
    """System repository: an RFC 6962 Merkle log of events. Appending happens in the caller's transaction."""

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size."""
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

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Stores a signed checkpoint."""
        ...

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, oldest first."""
        ...
