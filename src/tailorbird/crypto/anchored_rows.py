"""Names and digests under which rows are anchored in the event log.

A digest covers the fields that differ from their defaults: a later version that adds a field finds earlier rows as they were anchored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.crypto.merkle import HASH_BYTES, Node
from tailorbird.domain.curation import Decision
from tailorbird.domain.deployment import Alias
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.event import AnchoredRow, Event
from tailorbird.domain.identity import ApiKey, Identity, Session, Storage, Tenant
from tailorbird.domain.label_review import Judgement
from tailorbird.domain.release import Look, Release
from tailorbird.domain.rollout import Rollout
from tailorbird.domain.run import Run, Step, StepState
from tailorbird.domain.value import Digest, Value

#: The places of an objective's rows are anchored in so many groups, by the first digit of the row's id: a change reads its group alone.
_PLACES = "0123456789abcdef"
_OVER = (StepState.DONE, StepState.FAILED)


@dataclass(frozen=True)
class RowGroup:
    """``digest`` is over the rows of the group, None where there is none; ``name`` is that of the group within its tenant."""

    tenant: str
    name: str
    digest: Digest | None


def run_group(run: Run, steps: Iterable[Step]) -> RowGroup:
    """A run with what its steps have left and cost."""
    left = [
        [step.name, step.state.value if step.state in _OVER else "", step.result, step.seconds, step.paid]
        for step in steps
        if step.state in _OVER or step.result or step.seconds or step.paid
    ]
    return _group(run.tenant, f"run/{run.id}", [digest_of(run), left])


def look_group(tenant: str, looks: Iterable[Look]) -> RowGroup:
    """All looks at sealed tests: what is left of the error budgets."""
    return _group(
        tenant, "looks", sorted([look.objective_name, look.number, look.snapshot, look.candidate, look.question] for look in looks)
    )


def place_of_row(row: Digest) -> str:
    """The part of an objective's splits that a row belongs to."""
    place = row[len("sha256:") : len("sha256:") + 1]
    return place if place and place in _PLACES else _PLACES[-1]


def split_groups(
    tenant: str, objective: str, assigned: Mapping[Digest, tuple[str, str]], places: Collection[str] = _PLACES
) -> list[RowGroup]:
    """The splits of an objective's rows, of which ``assigned`` are all in these ``places``."""
    parts: dict[str, list[str]] = {place: [] for place in sorted(places)}
    for row, (split, group) in assigned.items():
        parts[place_of_row(row)].append(f"{row} {split} {group}")
    return [_group(tenant, f"splits/{objective}/{place}", sorted(rows)) for place, rows in parts.items()]


def review_group(tenant: str, release: Digest, judgements: Iterable[Judgement]) -> RowGroup:
    """The label review of a release: what people said."""
    return _group(tenant, f"review/{release}", [digest_of(one.model_copy(update={"reason": ""})) for one in judgements])


def erasure_group(tenant: str, erasures: Iterable[Erasure]) -> RowGroup:
    """All erasures: who must not come back, and the certificates."""
    return _group(tenant, "erasures", sorted(digest_of(one) for one in erasures))


def decision_group(tenant: str, objective: str, decisions: Iterable[Decision]) -> RowGroup:
    """What was decided about rows of an objective."""
    told = [[one.row, one.action.value, one.label, one.by, one.at.isoformat()] for one in decisions]
    return _group(tenant, f"decisions/{objective}", told)


def record_group(tenant: str, kind: str, digests: Iterable[Digest]) -> RowGroup:
    """Which records there are of a kind; what each says has its digest."""
    return _group(tenant, f"records/{kind}", sorted(digests))


def secret_group(tenant: str, name: str, secret: bytes) -> RowGroup:
    """A secret of 256 bits, which its digest does not tell."""
    return _group(tenant, f"secret/{name}", [secret.hex()])


def storage_group(tenant: str, total: Storage) -> RowGroup:
    """How much a tenant has stored, as its quota counts it."""
    return _group(tenant, "stored", [total.artifacts, total.bytes] if total.artifacts else [])


def _group(tenant: str, name: str, rows: Sequence[object]) -> RowGroup:
    text = json.dumps(rows, separators=(",", ":"), sort_keys=True)
    return RowGroup(tenant, name, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if rows else None)


LEVELS, _FANOUT = 4, 16
TOP = Node(LEVELS, 0)
_EMPTY = bytes(HASH_BYTES)
#: The root over no rows, in hex.
EMPTY_STATE = _EMPTY.hex()

#: Places (hex) and digests of the rows in a bucket.
Bucket = dict[str, Digest]


class StateStore(Protocol):
    """Where buckets and nodes are kept. Nothing that it answers is trusted: a wrong answer leads to another root."""

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        """The rows in these buckets; an empty one may be left out."""
        ...

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The hashes of the nodes of a level with these numbers; an empty one is left out."""
        ...


def place_of(tenant: str, name: str) -> str:
    """The place of a row, in hex."""
    return hashlib.sha256(f"{tenant}\n{name}".encode()).hexdigest()


def bucket_of(place: str) -> int:
    """The bucket of a place."""
    return int(place[:4], 16)


class ProvenNodes:
    """The nodes on the ways from the root down to some buckets, each proven by the hash above it."""

    def __init__(self, leaves: Mapping[int, bytes], below: Mapping[Node, bytes]) -> None:
        self._leaves = leaves
        self._below = below

    def holds(self, buckets: Mapping[int, Bucket]) -> bool:
        """Whether these buckets, all of them asked for, are those that the root was made from."""
        return all(_bucket_hash(rows) == self._leaves[number] for number, rows in buckets.items())

    def changed(self, buckets: Mapping[int, Bucket]) -> dict[Node, bytes]:
        """The hashes of all nodes that change with these buckets, up to the root."""
        made = {Node(0, number): _bucket_hash(rows) for number, rows in buckets.items()}
        level_hashes = {node.number: hashed for node, hashed in made.items()}
        for level in range(1, LEVELS + 1):
            children = {number // _FANOUT: bytearray(self._below[Node(level, number // _FANOUT)]) for number in level_hashes}
            for number, hashed in level_hashes.items():
                at = number % _FANOUT * HASH_BYTES
                children[number // _FANOUT][at : at + HASH_BYTES] = hashed
            level_hashes = {number: _remembered(_node_hash(joined), bytes(joined)) for number, joined in children.items()}
            made |= {Node(level, number): hashed for number, hashed in level_hashes.items()}
        return made


def proven_nodes(store: StateStore, state: str, numbers: Collection[int]) -> ProvenNodes | None:
    """The nodes on the ways to the buckets ``numbers`` under the root ``state`` (hex); None where what is stored does not lead to it."""
    hashes, below = {0: bytes.fromhex(state)}, dict[Node, bytes]()
    for level in range(LEVELS, 0, -1):
        found = _children(store, level, hashes)
        if found is None:
            return None
        below |= {Node(level, number): joined for number, joined in found.items()}
        wanted = {number // _FANOUT ** (level - 1) for number in numbers}
        places = ((number, number % _FANOUT * HASH_BYTES) for number in wanted)
        hashes = {number: bytes(found[number // _FANOUT][at : at + HASH_BYTES]) for number, at in places}
    return ProvenNodes(hashes, below)


def _children(store: StateStore, level: int, hashes: Mapping[int, bytes]) -> dict[int, bytes] | None:
    """The joined hashes below each node of ``level``, which has the hash given for it; None where what is stored has another."""
    found = {number: joined for number, hashed in hashes.items() if (joined := _NOTHING if hashed == _EMPTY else _proven.get(hashed))}
    unknown = hashes.keys() - found.keys()
    below = {number: range(number * _FANOUT, (number + 1) * _FANOUT) for number in unknown}
    stored = store.nodes(level - 1, [*chain.from_iterable(below.values())]) if unknown else {}
    for number, children in below.items():
        joined = b"".join([stored.get(child, _EMPTY) for child in children])
        if _node_hash(joined) != hashes[number]:
            return None
        found[number] = joined
        _remembered(hashes[number], joined)
    return found


def _remembered(hashed: bytes, joined: bytes) -> bytes:
    if len(_proven) >= _MOST_PROVEN:
        _proven.clear()
    if hashed != _EMPTY:
        _proven[hashed] = joined
    return hashed


#: What lies below an empty node. What was proven to lie below others, by their hashes: that of a whole tree takes 3 MB.
_NOTHING = _EMPTY * _FANOUT
_proven: dict[bytes, bytes] = {}
_MOST_PROVEN = 16_384


def root_over(rows: Mapping[str, Digest]) -> str:
    """The root over all rows by place, made from nothing."""
    return nodes_over(rows).get(TOP, _EMPTY).hex()


def nodes_over(rows: Mapping[str, Digest]) -> dict[Node, bytes]:
    """Every node over all rows by place, made from nothing; empty ones are left out."""
    buckets: dict[int, Bucket] = {}
    for place, digest in rows.items():
        buckets.setdefault(bucket_of(place), {})[place] = digest
    leaves = {Node(0, number): _bucket_hash(found) for number, found in buckets.items()}
    # The nodes above ``below``, beside which nothing stands.
    made: dict[Node, bytes] = {}
    present = dict(leaves)
    for level in range(LEVELS):
        parents = {node.number // _FANOUT for node in present}
        present = {
            Node(level + 1, parent): _node_hash(
                b"".join(present.get(Node(level, parent * _FANOUT + child), _EMPTY) for child in range(_FANOUT))
            )
            for parent in parents
        }
        made |= present
    return leaves | made


def _bucket_hash(rows: Mapping[str, Digest]) -> bytes:
    if not rows:
        return _EMPTY
    hashed = hashlib.sha256(b"\x00")
    for place in sorted(rows):
        hashed.update(bytes.fromhex(place) + bytes.fromhex(rows[place].removeprefix("sha256:")))
    return hashed.digest()


def _node_hash(joined: bytes | bytearray) -> bytes:
    return _EMPTY if not any(joined) else hashlib.sha256(b"\x01" + joined).digest()


#: In place of a name: every row of the tenant.
EVERY_ROW = "*"
_NO_ROWS = bytes.fromhex(EMPTY_STATE)


#: Of each kind of value that is anchored by itself: its tenant, and its name there.
_ANCHORED: dict[type[Value], Callable[[Any], tuple[str, str]]] = {
    Tenant: lambda value: (value.name, "tenant"),
    Identity: lambda value: (value.tenant, f"identity/{value.name}"),
    ApiKey: lambda value: (value.tenant, f"key/{value.id}"),
    Session: lambda value: (value.tenant, f"session/{value.id}"),
    Release: lambda value: (value.content.tenant, f"release/{value.digest}"),
    Alias: lambda value: (value.tenant, f"alias/{value.path.removeprefix(f'{value.tenant}/')}"),
    Rollout: lambda value: (value.tenant, f"rollout/{value.id}"),
}


def anchored_row(value: Value | RowGroup) -> AnchoredRow:
    """The name of the row that holds ``value`` within its tenant, and the digest that stands for the row as it is now.

    A release stands for its approvals too, so that none can be added or taken away. When a session ended is left out: whoever ends one, or
    revives one, lacks its secret. Raises KeyError for what is not anchored.
    """
    if isinstance(value, RowGroup):
        return AnchoredRow(tenant=value.tenant, name=value.name, digest=value.digest)
    tenant, name = _ANCHORED[type(value)](value)
    fixed = value.model_copy(update={"ended_at": None}) if isinstance(value, Session) else value
    return AnchoredRow(tenant=tenant, name=name, digest=digest_of(fixed))


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
    def changing(self, read: Callable[[], Iterable[Value | RowGroup]]) -> Iterator[None]:
        """Notes what the rows or groups that ``read`` gives hold before the body and after it; both times the same ones."""
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
