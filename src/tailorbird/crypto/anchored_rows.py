"""Names and digests under which rows are anchored in the event log.

A digest covers the fields that differ from their defaults: a later version that adds a field finds earlier rows as they were anchored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import singledispatch
from typing import Protocol

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.crypto.merkle import Node
from tailorbird.crypto.row_groups import RowGroup
from tailorbird.crypto.state_tree import EMPTY_STATE, TOP, StateStore, bucket_of, nodes_over, place_of, proven_nodes, root_over
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.event import AnchoredRow, Event
from tailorbird.domain.identity import ApiKey, Identity, Session, Tenant
from tailorbird.domain.release import Release
from tailorbird.domain.rollout import Rollout
from tailorbird.domain.value import Digest, Value

#: In place of a name: every row of the tenant.
EVERY_ROW = "*"
_NO_ROWS = bytes.fromhex(EMPTY_STATE)


@singledispatch
def anchored_row(value: Value | RowGroup) -> AnchoredRow:
    """The name of the row that holds ``value`` within its tenant, and the digest that stands for the row as it is now.

    A release stands for its approvals too, so that none can be added or taken away. Raises TypeError for what is not anchored.
    """
    raise TypeError(f"{type(value).__name__} is not anchored in the log")


@anchored_row.register
def _(value: Tenant) -> AnchoredRow:
    return AnchoredRow(tenant=value.name, name="tenant", digest=digest_of(value))


@anchored_row.register
def _(value: Identity) -> AnchoredRow:
    return AnchoredRow(tenant=value.tenant, name=f"identity/{value.name}", digest=digest_of(value))


@anchored_row.register
def _(value: ApiKey) -> AnchoredRow:
    return AnchoredRow(tenant=value.tenant, name=f"key/{value.id}", digest=digest_of(value))


@anchored_row.register
def _(value: Session) -> AnchoredRow:
    """When it ended is left out: whoever ends one, or revives one, lacks its secret."""
    return AnchoredRow(tenant=value.tenant, name=f"session/{value.id}", digest=digest_of(value.model_copy(update={"ended_at": None})))


@anchored_row.register
def _(value: Release) -> AnchoredRow:
    return AnchoredRow(tenant=value.content.tenant, name=f"release/{value.digest}", digest=digest_of(value))


@anchored_row.register
def _(value: Alias) -> AnchoredRow:
    return AnchoredRow(tenant=value.tenant, name=f"alias/{value.path.removeprefix(f'{value.tenant}/')}", digest=digest_of(value))


@anchored_row.register
def _(value: Rollout) -> AnchoredRow:
    return AnchoredRow(tenant=value.tenant, name=f"rollout/{value.id}", digest=digest_of(value))


@anchored_row.register
def _(value: RowGroup) -> AnchoredRow:
    return AnchoredRow(tenant=value.tenant, name=value.name, digest=value.digest)


@dataclass(frozen=True)
class RowChange:
    """A row's digest before a change and after it; None where there is no row."""

    before: Digest | None
    after: Digest | None


class RowChanges:
    """Rows that a transaction has changed and no event has anchored yet, by tenant and name."""

    def __init__(self) -> None:
        self._pending: dict[str, dict[str, RowChange]] = {}

    def note(self, before: Value | RowGroup | None, after: Value | RowGroup | None) -> None:
        """Notes what a row held and what it holds; one of the two may be missing."""
        old = anchored_row(before) if before is not None else None
        row = anchored_row(after) if after is not None else old
        if row is None:
            return
        of_tenant = self._pending.setdefault(row.tenant, {})
        first = of_tenant.get(row.name, RowChange(old.digest if old else None, None))
        of_tenant[row.name] = RowChange(first.before, row.digest if after is not None else None)

    @contextmanager
    def changing(self, read: Callable[[], Iterable[RowGroup]]) -> Iterator[None]:
        """Notes what the groups that ``read`` gives hold before the body and after it; both times the same groups."""
        before = tuple(read())
        yield
        for old, new in zip(before, read(), strict=True):
            if old != new:
                self.note(old, new)

    def note_none_left(self, tenant: str) -> None:
        """Notes that no row of the tenant is left."""
        self._pending[tenant] = {EVERY_ROW: RowChange(None, None)}

    def not_pending(self, tenant: str, rows: Mapping[str, Digest | None]) -> dict[str, Digest | None]:
        """``rows`` without those that are as this transaction has changed them: what they were before is checked when it is anchored."""
        pending = self._pending.get(tenant, {})
        return {name: digest for name, digest in rows.items() if name not in pending or pending[name].after != digest}

    def take(self, tenant: str) -> dict[str, RowChange]:
        """What is noted of a tenant, once."""
        return self._pending.pop(tenant, {})

    def tenants(self) -> tuple[str, ...]:
        """Tenants of which something is noted."""
        return tuple(self._pending)


def with_changes(events: Sequence[Event], changes: RowChanges) -> tuple[list[Event], dict[str, dict[str, RowChange]]]:
    """The events, the last of each tenant with the rows that changed with it; and these changes by tenant."""
    last = {event.tenant: number for number, event in enumerate(events)}
    taken = {tenant: changes.take(tenant) for tenant in last}
    told = list(events)
    for tenant, number in last.items():
        rows = {name: change.after for name, change in taken[tenant].items()}
        if rows:
            told[number] = told[number].model_copy(update={"rows": told[number].rows | rows})
    return told, {tenant: rows for tenant, rows in taken.items() if rows}


class AnchorStore(StateStore, Protocol):
    """Where anchored rows are kept for look-ups."""

    def names(self, tenant: str) -> tuple[str, ...]:
        """The names of all anchored rows of a tenant."""
        ...

    def all(self) -> Iterator[AnchoredRow]:
        """Every anchored row."""
        ...

    def all_nodes(self) -> Mapping[Node, bytes]:
        """The hash of every node; empty ones may be left out."""
        ...


@dataclass(frozen=True)
class AnchorUpdate:
    """What an append changes of the anchored rows: those rows, the nodes above them, and the new root."""

    rows: dict[tuple[str, str], Digest | None]
    nodes: dict[Node, bytes]
    state: str


def update_anchors(store: AnchorStore, state: str, changes: Mapping[str, Mapping[str, RowChange]]) -> AnchorUpdate:
    """The anchored rows after ``changes``, checked against the root ``state`` of before.

    Raises Corrupt where a row was not as it was anchored, or what is stored does not lead to the root.
    """
    wanted = {(tenant, name): change for tenant, names in changes.items() for name, change in _spelled(store, tenant, names).items()}
    places = {key: place_of(*key) for key in wanted}
    numbers = {bucket_of(place) for place in places.values()}
    stored = store.buckets(numbers)
    buckets = {number: dict(stored.get(number, {})) for number in numbers}
    proven = proven_nodes(store, state, numbers)
    if proven is None or not proven.holds(buckets):
        raise state_corrupt()
    for (tenant, name), change in wanted.items():
        place = places[tenant, name]
        bucket = buckets[bucket_of(place)]
        if bucket.get(place) != change.before:
            raise row_changed(tenant, (name,))
        if change.after is None:
            bucket.pop(place, None)
        else:
            bucket[place] = change.after
    nodes = proven.changed(buckets) if buckets else {}
    return AnchorUpdate({key: change.after for key, change in wanted.items()}, nodes, nodes[TOP].hex() if nodes else state)


def differing_rows(store: StateStore, state: str, tenant: str, rows: Mapping[str, Digest | None]) -> tuple[str, ...]:
    """Names of those of ``rows`` that are anchored otherwise, or not. Raises Corrupt where what is stored does not lead to ``state``."""
    places = {name: place_of(tenant, name) for name in rows}
    numbers = {bucket_of(place) for place in places.values()}
    stored = store.buckets(numbers)
    buckets = {number: stored.get(number, {}) for number in numbers}
    proven = proven_nodes(store, state, numbers)
    if proven is None or not proven.holds(buckets):
        raise state_corrupt()
    return tuple(name for name, place in places.items() if buckets[bucket_of(place)].get(place) != rows[name])


def rows_of_kind(store: AnchorStore, state: str, tenant: str, kind: str) -> dict[str, Digest]:
    """Digests of all anchored rows of a kind (``identity``) of a tenant, by name. None can be missing: the root is made from every row.

    Raises Corrupt where what is stored does not lead to ``state``.
    """
    rows = {(row.tenant, row.name): row.digest for row in store.all() if row.digest is not None}
    if root_over({place_of(*key): digest for key, digest in rows.items()}) != state:
        raise state_corrupt()
    return {name: digest for (owner, name), digest in rows.items() if owner == tenant and name.partition("/")[0] == kind}


def altered_nodes(store: AnchorStore) -> int:
    """How many nodes of the state tree are not what the anchored rows make. A look-up of a row beside one of them is refused."""
    rows = {place_of(row.tenant, row.name): row.digest for row in store.all() if row.digest is not None}
    made, kept = nodes_over(rows), store.all_nodes()
    return sum(made.get(node, _NO_ROWS) != kept.get(node, _NO_ROWS) for node in made.keys() | kept.keys())


def row_changed(tenant: str, names: Sequence[str]) -> Corrupt:
    """The error for rows that are not as the log anchors them."""
    told = ", ".join(map(row_text, names))
    return Corrupt(
        f"the record of {tenant} is not what the log says: {told}",
        "somebody changed the database outside tailorbird: run tailorbird audit verify, and restore a backup",
        code="row_changed",
    )


def row_text(name: str) -> str:
    """A row's name for people: ``identity ada``, ``release 1f00c2``, ``tenant``."""
    kind, _, key = name.partition("/")
    return f"{kind} {short(key) if key.startswith('sha256:') else key}".strip()


def state_corrupt() -> Corrupt:
    """The error for anchors that do not lead to the head of the log."""
    return Corrupt(
        "the anchors of rows do not lead to the head of the log",
        "somebody changed the database outside tailorbird: run tailorbird audit verify, and restore a backup",
        code="anchors_corrupt",
    )


def _spelled(store: AnchorStore, tenant: str, names: Mapping[str, RowChange]) -> dict[str, RowChange]:
    """With the name of each row in place of ``*``."""
    if EVERY_ROW not in names:
        return dict(names)
    known = store.names(tenant)
    stored = store.buckets({bucket_of(place_of(tenant, name)) for name in known})
    digests = {name: stored[bucket_of(place)].get(place) for name in known for place in (place_of(tenant, name),)}
    gone = {name: RowChange(digest, None) for name, digest in digests.items()}
    return gone | {name: RowChange(digests.get(name), change.after) for name, change in names.items() if name != EVERY_ROW}
