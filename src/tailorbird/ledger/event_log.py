"""Tamper-evident event log: an RFC 6962 Merkle tree that grows in the transaction of each change.

Hashes of complete subtrees are stored, so that a proof costs a few look-ups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, text, tuple_, update

from tailorbird.crypto.anchored_rows import EMPTY_STATE, AnchorUpdate, Bucket, RowChanges, bucket_of, place_of, update_anchors, with_changes
from tailorbird.crypto.log_verification import demand_included, event_body, event_of, salted
from tailorbird.crypto.merkle import (
    HASH_BYTES,
    Frontier,
    LeafSpan,
    Node,
    complete_subtrees,
    consistency_spans,
    fold,
    inclusion_spans,
    leaf_hash,
    root,
)
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import AnchoredRow, Checkpoint, Event, LogEntry, LogHead, is_begun_digest
from tailorbird.ledger.repository import ROWS_AT_ONCE, begins, next_number, own, row_of, select_fields, upsert, value_from
from tailorbird.ledger.tables import anchor_nodes, anchored_rows, checkpoints, log_entries, log_frontier, log_nodes

#: Every how many levels the hashes are kept. Fixed for good: it is what ``log_nodes`` of every database holds.
STRIDE = 4


def keep(connection: Connection, finished: Mapping[Node, bytes]) -> None:
    """Keeps those of the finished subtrees that lie at a kept level.

    Of the levels of the tree every ``STRIDE``-th is kept, which adds one row to sixteen entries and keeps appending fast; the leaves are
    level 0 and stand with the entries. What lies between two kept levels is hashed again from at most ``2**(STRIDE - 1)`` hashes. None of
    this is trusted when the log is verified: it only makes proofs, and a wrong hash makes a proof that does not hold.
    """
    rows = [{"level": level, "number": number, "hash": found.hex()} for (level, number), found in finished.items() if level % STRIDE == 0]
    if rows:
        connection.execute(insert(log_nodes), rows)


def roots(connection: Connection, spans: Sequence[LeafSpan]) -> tuple[bytes, ...]:
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
        found |= {Node(0, index): bytes.fromhex(hashed) for index, hashed in _leaf_hashes(connection, leaves)}
    if inner:
        kept = select(log_nodes).where(tuple_(log_nodes.c.level, log_nodes.c.number).in_(inner))
        found |= {Node(level, number): bytes.fromhex(hashed) for level, number, hashed in connection.execute(kept)}
    return found


def _leaf_hashes(connection: Connection, leaves: Sequence[int]) -> list[tuple[int, str]]:
    """Hashes of entries, whoever's they are: where a policy hides the entries of others, a function tells their hashes."""
    if connection.dialect.name == "postgresql":
        found = connection.execute(text("SELECT place, hashed FROM log_leaves(:leaves)"), {"leaves": list(leaves)})
    else:
        found = connection.execute(select(log_entries.c.index, log_entries.c.leaf_hash).where(log_entries.c.index.in_(leaves)))
    return [(index, hashed) for index, hashed in found]


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


class Events:
    """An RFC 6962 Merkle log of events; ``tenant`` None stands above tenants and sees everything.

    There is one log for all tenants. Opened for a tenant it takes and shows that tenant's events alone; size, roots, proofs and
    checkpoints, which tell nothing about anybody's events, are those of the whole.
    """

    def __init__(
        self, connection: Connection, tenant: str | None, changes: RowChanges | None = None, sealer: LogSealer | None = None
    ) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()
        self._sealer = sealer
        #: The head that this transaction leaves, where it has changed it: not committed yet, so nothing outside may know it.
        self._written: LogHead | None = None

    def append(self, events: Sequence[Event]) -> int:
        """Appends events in order and returns the log's new size. Reads few rows, however long the log.

        Raises InvalidInput, Forbidden; Corrupt where a row that changed with them was not as it was anchored, or the head is not sealed.
        """
        for event in events:
            own(self._tenant or event.tenant, event.tenant)
        before = self._head(lock=True)
        if not events:
            return before.frontier.size
        self._check_appendable(before)
        told, changes = with_changes(events, self._changes)
        rows, leaves = [], []
        for index, event in enumerate(told, start=before.frontier.size):
            body = event_body(salted(event))
            leaves.append(leaf_hash(body.encode()))
            leaf = leaves[-1].hex()
            rows.append({"index": index, "leaf_hash": leaf, "tenant": event.tenant, "subject": event.subject, "body": body})
        after, finished = before.frontier.extend(leaves)
        self._connection.execute(insert(log_entries), rows)
        keep(self._connection, finished)
        state = before.state
        if changes:
            anchors = StoredAnchors(self._connection)
            updated = update_anchors(anchors, state, changes)
            anchors.write(updated)
            state = updated.state
        head = LogHead(size=after.size, root=after.root().hex(), state=state)
        edge = [hashed.hex() for hashed in after.edge]
        self._connection.execute(update(log_frontier).values(size=after.size, edge=edge, state=state, seal=self._seal(before, head)))
        self._written = head
        return after.size

    def sealed_head(self) -> LogHead:
        """The head of the log. Raises Corrupt, NotFound: it is not sealed by this log's key."""
        stored = self._head()
        self._check(stored)
        return stored.head()

    def check_writable(self) -> None:
        """Raises Corrupt, NotFound where an entry could not be appended. Changes nothing."""
        stored = self._head(lock=True)
        self._check_appendable(stored)
        self._seal(stored, stored.head())

    def committed(self) -> None:
        """Called once the transaction has committed: from now on the log may not be shorter."""
        if self._sealer is not None and self._written is not None:
            self._sealer.remember(self._written)

    def anchor_rest(self, at: datetime) -> None:
        """Anchors, by an event of its own, what was changed in this transaction and no event told of."""
        for tenant in self._changes.tenants():
            self.append([Event(kind="rows.changed", tenant=tenant, actor="ledger", subject=tenant, at=at)])

    def _check(self, stored: _StoredHead) -> None:
        """What this transaction has written itself was checked before."""
        is_begun = stored.frontier.size or stored.seal or stored.state != EMPTY_STATE
        if self._sealer is not None and self._written is None and is_begun:
            self._sealer.check(stored.head(), stored.seal)

    def _check_appendable(self, stored: _StoredHead) -> None:
        self._check(stored)
        if self._sealer is not None and self._written is None:
            self._sealer.check_growth(stored.head())

    def _seal(self, before: _StoredHead, head: LogHead) -> str:
        if self._sealer is None or not head.size:
            return ""
        is_new = not before.seal and not self._connection.scalar(select(func.count()).select_from(checkpoints))
        return self._sealer.seal(head, was_sealed=bool(before.seal), is_new=is_new)

    def size(self) -> int:
        """Number of entries of the log."""
        return self._frontier().size

    def root(self) -> str:
        """The root over all entries, in hex."""
        return self._frontier().root().hex()

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[LogEntry]:
        """Entries ``start`` to ``stop`` (exclusive), in order, as a stream; a tenant's log leaves out those of others. Raises Corrupt."""
        asked = self._visible().where(log_entries.c.index >= start)
        asked = asked if stop is None else asked.where(log_entries.c.index < stop)
        with self._connection.execute(asked.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
            yield from map(_entry, rows)

    def about(self, subject: str) -> tuple[LogEntry, ...]:
        """Entries whose event has this subject, in order, each found to be in the log. Raises Corrupt, NotFound."""
        entries = tuple(map(_entry, self._connection.execute(self._visible().where(log_entries.c.subject == subject))))
        if entries:
            demand_included(entries, self.sealed_head(), lambda spans: roots(self._connection, spans))
        return entries

    def latest(self, limit: int = 50, before: int | None = None, subject: str = "") -> tuple[LogEntry, ...]:
        """At most ``limit`` entries, newest first; with ``before``, only those with a smaller index; with ``subject``, only those about it,
        or what begins so where it is a digest cut short. Raises Corrupt."""
        asked = self._visible() if before is None else self._visible().where(log_entries.c.index < before)
        if subject:
            named = log_entries.c.subject
            asked = asked.where(begins(named, subject) if is_begun_digest(subject) else named == subject)
        newest = asked.order_by(None).order_by(log_entries.c.index.desc()).limit(limit)
        return tuple(map(_entry, self._connection.execute(newest)))

    def inclusion(self, index: int, size: int | None = None) -> tuple[str, ...]:
        """The RFC 6962 audit path of entry ``index`` in the tree of ``size`` (default: all). Raises InvalidInput, Corrupt."""
        whole = self._tree_size(size)
        if not 0 <= index < whole:
            raise _outside(f"there is no entry {index} in a log of {whole}")
        return self._roots(inclusion_spans(index, whole))

    def consistency(self, first: int, second: int | None = None) -> tuple[str, ...]:
        """The RFC 6962 consistency proof from the tree of ``first`` to that of ``second`` (default: all). Raises InvalidInput, Corrupt."""
        whole = self._tree_size(second)
        if not 0 <= first <= whole:
            raise _outside(f"a log of {whole} entries does not continue one of {first}")
        return self._roots(consistency_spans(first, whole))

    def root_at(self, size: int) -> str:
        """The root of the tree of the first ``size`` entries, in hex. Raises InvalidInput, Corrupt."""
        return self._roots([LeafSpan(0, self._tree_size(size))])[0]

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Stores a signed checkpoint."""
        self._connection.execute(insert(checkpoints).values(row_of(checkpoints, checkpoint, number=next_number(checkpoints.c.number))))

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints, oldest first."""
        rows = self._connection.execute(select_fields(checkpoints, Checkpoint).order_by(checkpoints.c.number))
        return tuple(value_from(Checkpoint, row) for row in rows)

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint, None where there is none."""
        row = self._connection.execute(select_fields(checkpoints, Checkpoint).order_by(checkpoints.c.number.desc()).limit(1)).first()
        return value_from(Checkpoint, row) if row else None

    def _visible(self) -> Select[Any]:
        every = select(log_entries).order_by(log_entries.c.index)
        return every if self._tenant is None else every.where(log_entries.c.tenant == self._tenant)

    def _tree_size(self, size: int | None) -> int:
        whole = self.size()
        if size is not None and not 0 <= size <= whole:
            raise _outside(f"the log never had {size} entries: it has {whole}")
        return whole if size is None else size

    def _roots(self, spans: Sequence[LeafSpan]) -> tuple[str, ...]:
        try:
            return tuple(found.hex() for found in roots(self._connection, spans))
        except (KeyError, ValueError):
            raise Corrupt("a hash of the event log is gone or cannot be read", _RESTORE, code="log_corrupt") from None

    def _frontier(self) -> Frontier:
        return self._head().frontier

    def _head(self, *, lock: bool = False) -> _StoredHead:
        stored = select(log_frontier.c.size, log_frontier.c.edge, log_frontier.c.state, log_frontier.c.seal)
        row = self._connection.execute(stored.with_for_update() if lock else stored).one_or_none()
        if row is None:
            raise _no_frontier()
        try:
            return _StoredHead(Frontier(row.size, tuple(map(bytes.fromhex, row.edge))), row.state, row.seal)
        except (TypeError, ValueError):
            raise _no_frontier() from None


@dataclass(frozen=True)
class _StoredHead:
    """The row of the log's head: right edge, root over the anchored rows (empty before the first), signature."""

    frontier: Frontier
    state: str
    seal: str

    def head(self) -> LogHead:
        """What is signed."""
        return LogHead(size=self.frontier.size, root=self.frontier.root().hex(), state=self.state)


def _entry(row: Row[Any]) -> LogEntry:
    """Raises Corrupt for a body that is no event, and for columns beside it (by which entries are found) that say something else."""
    try:
        entry = LogEntry(index=row.index, leaf_hash=row.leaf_hash, event=event_of(row.body), body=row.body)
    except ValidationError:
        entry = None
    if entry is None or (entry.event.tenant, entry.event.subject) != (row.tenant, row.subject):
        raise Corrupt(f"entry {row.index} of the event log is not what was written", _RESTORE, code="log_corrupt")
    return entry


def _outside(what: str) -> InvalidInput:
    return InvalidInput(what, "ask for what lies within the log: tailorbird audit verify tells its size")


def _no_frontier() -> Corrupt:
    return Corrupt("the head of the event log is gone or cannot be read", _RESTORE, code="log_corrupt")


_RESTORE = "somebody changed the database outside tailorbird: restore it from a backup, then run tailorbird audit verify"


class StoredAnchors:
    """The tables of the anchored rows: rows by bucket, and the nodes of the state tree above them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        """The rows in these buckets."""
        found: dict[int, Bucket] = {}
        for some in _portions(numbers):
            asked = f"SELECT bucket, place, digest FROM {anchored_rows.name} WHERE bucket IN ({some})"
            for bucket, place, digest in self._connection.exec_driver_sql(asked):
                found.setdefault(bucket, {})[_hex(place)] = f"sha256:{_hex(digest)}"
        return found

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The hashes of the nodes of a level with these numbers."""
        found: dict[int, bytes] = {}
        for some in _portions(numbers):
            asked = f"SELECT number, hash FROM {anchor_nodes.name} WHERE level = {level:d} AND number IN ({some})"
            found.update((number, _bytes(hashed)) for number, hashed in self._connection.exec_driver_sql(asked).all())
        return found

    def names(self, tenant: str) -> tuple[str, ...]:
        """The names of all anchored rows of a tenant."""
        return tuple(self._connection.scalars(select(anchored_rows.c.name).where(anchored_rows.c.scope == tenant)))

    def all(self) -> Iterator[AnchoredRow]:
        """Every anchored row."""
        columns = (anchored_rows.c.scope, anchored_rows.c.name, anchored_rows.c.digest)
        for scope, name, digest in self._connection.execute(select(*columns).execution_options(yield_per=ROWS_AT_ONCE)):
            yield AnchoredRow(tenant=scope, name=name, digest=f"sha256:{_hex(digest)}")

    def all_nodes(self) -> dict[Node, bytes]:
        """The hash of every node. Raises Corrupt."""
        columns = (anchor_nodes.c.level, anchor_nodes.c.number, anchor_nodes.c.hash)
        rows = self._connection.execute(select(*columns).execution_options(yield_per=ROWS_AT_ONCE))
        return {Node(level, number): _bytes(hashed) for level, number, hashed in rows}

    def write(self, update: AnchorUpdate) -> None:
        """Keeps what an append has changed."""
        gone = [place_of(*key) for key, digest in update.rows.items() if digest is None]
        for start in range(0, len(gone), _AT_ONCE):
            places = [(bucket_of(place), place) for place in gone[start : start + _AT_ONCE]]
            here = or_(*(and_(anchored_rows.c.bucket == bucket, anchored_rows.c.place == place) for bucket, place in places))
            self._connection.execute(delete(anchored_rows).where(here))
        rows = [
            {"bucket": bucket_of(place), "place": place, "scope": tenant, "name": name, "digest": digest.removeprefix("sha256:")}
            for (tenant, name), digest in update.rows.items()
            for place in (place_of(tenant, name),)
            if digest is not None
        ]
        upsert(self._connection, anchored_rows, rows, replaced=("scope", "name", "digest"))
        nodes = [{"level": level, "number": number, "hash": hashed.hex()} for (level, number), hashed in update.nodes.items()]
        upsert(self._connection, anchor_nodes, nodes, replaced=("hash",))


#: Rows deleted, and numbers listed, in one statement.
_AT_ONCE, _LISTED = 400, 4_000


def _portions(numbers: Collection[int]) -> Iterator[str]:
    """``numbers`` as SQL lists them, so many at once: bound one by one, thousands of whole numbers take longer than the answer."""
    ordered = sorted(numbers)
    yield from (",".join(f"{number:d}" for number in ordered[start : start + _LISTED]) for start in range(0, len(ordered), _LISTED))


def _hex(text: str) -> str:
    """``text`` where it is a hash in hexadecimal. Raises Corrupt."""
    _bytes(text)
    return text


def _bytes(text: str) -> bytes:
    """The hash that ``text`` is in hexadecimal. Raises Corrupt."""
    try:
        hashed = bytes.fromhex(text)
    except (TypeError, ValueError):
        hashed = b""
    if len(hashed) != HASH_BYTES:
        raise Corrupt(
            "an anchor of a row cannot be read",
            _RESTORE,
            code="anchors_corrupt",
        )
    return hashed
