"""The tamper-evident log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tailorbird.domain.event import AnchoredRow, Checkpoint, Event, LogEntry, LogHead
from tailorbird.domain.identity import Identity
from tailorbird.domain.value import Digest


class LogSealer(Protocol):
    """Signs the head of the log with a key that is not in the database, whenever an entry is appended."""

    def seal(self, head: LogHead, *, was_sealed: bool, is_new: bool) -> str:
        """The signature (base64) over the head's statement; empty where the key is not here, and the head before ``was_sealed`` by nobody.

        ``is_new``: nothing was signed of this log so far, so that a key may be made. Raises NotFound where the key is on another machine.
        """
        ...

    def check(self, head: LogHead, seal: str) -> None:
        """Returns where ``seal`` is this log's over a committed head, or where nothing was ever sealed from here. Raises Corrupt, NotFound.

        Once a head was found sealed, one without a seal is refused from then on.
        """
        ...

    def check_growth(self, head: LogHead) -> None:
        """Raises Corrupt where this process has committed a log longer than the committed ``head``, or another of its size."""
        ...

    def remember(self, head: LogHead) -> None:
        """Keeps a head whose transaction has committed, for ``check_growth``."""
        ...


class EventLog(Protocol):
    """An RFC 6962 Merkle log of events, as one tenant sees it. Appending happens in the caller's transaction."""

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size. Raises InvalidInput for a number that would
        not be read back as it was.

        Rows of the event's tenant that the transaction has changed so far are anchored by the last event of that tenant. What no event
        of the transaction anchors, one of its own does (``rows.changed``). Raises Corrupt where a row was not as it was anchored before,
        or the log's head is not sealed.
        """
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

    def latest(self, limit: int = 50, before: int | None = None, subject: str = "") -> tuple[LogEntry, ...]:
        """At most ``limit`` entries that are visible here, newest first; with ``before``, only those with a smaller index.

        With ``subject``, only those whose event has it, or one that begins so where it is a digest cut short (``is_begun_digest``).
        """
        ...


class AuditLog(EventLog, Protocol):
    """The whole log, above tenants: with its proofs, and the checkpoints that were signed of it."""

    def check_writable(self) -> None:
        """Raises Corrupt, NotFound where an entry could not be appended: the head is not sealed, or shorter than it was, or the key that
        seals it is not here. Changes nothing."""
        ...

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


class RowAnchors(Protocol):
    """The rows of one tenant as the log anchors them."""

    def differing(self, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """The names of those of ``rows`` (digest by name; None: there is none) that the log anchors otherwise, or not.

        Takes a few look-ups, however long the log. Raises Corrupt where what is stored does not lead to the head, or that is not sealed.
        """
        ...

    def all_of(self, kind: str) -> Mapping[str, Digest]:
        """The digests of all anchored rows of a kind (``identity``), by name (``identity/ada``): those too that a table lacks.

        Reads every anchored row. Raises Corrupt as ``differing``.
        """
        ...


class RowAnchorBook(Protocol):
    """System repository: the anchored rows of every tenant."""

    def head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        ...

    def differing(self, tenant: str, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
        """As ``RowAnchors.differing``, of one tenant."""
        ...

    def anchored(self) -> Iterator[AnchoredRow]:
        """What the log anchors, as it is kept for look-ups."""
        ...

    def altered_nodes(self) -> int:
        """How many nodes of the tree over the anchored rows are not what those make. Raises Corrupt for one that cannot be read."""
        ...

    def identities(self, tenant: str) -> tuple[Identity, ...]:
        """The identities that the table holds now, by name. Raises Corrupt for one that cannot be read."""
        ...

    def found(self, tenant: str) -> Iterator[AnchoredRow]:
        """The rows that the tables hold now, whatever the log says. Raises Corrupt for one that cannot be read."""
        ...
