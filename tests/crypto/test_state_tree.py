"""The root over anchored rows: one for each set of rows, in whatever order they came; and who answers wrongly is found out."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto import anchored_rows
from tailorbird.crypto.anchored_rows import EMPTY_STATE, Bucket, RowChange, bucket_of, differing_rows, place_of, root_over, update_anchors
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.merkle import Node
from tailorbird.domain.errors import Corrupt

ONE, OTHER = digest_bytes(b"one"), digest_bytes(b"other")


class Store:
    """Buckets and nodes in dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, str]] = {}
        self.known: dict[Node, bytes] = {}
        self.named: dict[str, set[str]] = {}
        self.state = EMPTY_STATE

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        return {number: dict(self.rows.get(number, {})) for number in numbers}

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        return {number: self.known[Node(level, number)] for number in numbers if Node(level, number) in self.known}

    def names(self, tenant: str) -> tuple[str, ...]:
        return tuple(sorted(self.named.get(tenant, ())))

    def change(self, tenant: str, rows: dict[str, RowChange]) -> None:
        update = update_anchors(self, self.state, {tenant: rows})
        for (owner, name), digest in update.rows.items():
            place = place_of(owner, name)
            bucket = self.rows.setdefault(bucket_of(place), {})
            if digest is None:
                bucket.pop(place, None)
                self.named.setdefault(owner, set()).discard(name)
            else:
                bucket[place] = digest
                self.named.setdefault(owner, set()).add(name)
        self.known |= update.nodes
        self.state = update.state

    def all(self) -> dict[str, str]:
        return {place: digest for bucket in self.rows.values() for place, digest in bucket.items()}


NAMES = st.sampled_from([f"identity/{n}" for n in range(40)])
STEPS = st.lists(st.tuples(st.sampled_from(["acme", "globex"]), NAMES, st.sampled_from([ONE, OTHER, None])), max_size=30)


@given(steps=STEPS)
def test_the_root_is_that_of_the_rows_however_they_came(steps: list[tuple[str, str, str | None]]) -> None:
    store, held = Store(), dict[tuple[str, str], str | None]()
    for tenant, name, digest in steps:
        store.change(tenant, {name: RowChange(held.get((tenant, name)), digest)})
        held[tenant, name] = digest
    wanted = {place_of(*key): digest for key, digest in held.items() if digest is not None}
    assert store.all() == wanted
    assert store.state == root_over(wanted)
    for tenant in ("acme", "globex"):
        mine = {name: digest for (owner, name), digest in held.items() if owner == tenant}
        assert differing_rows(store, store.state, tenant, mine) == ()
        assert set(differing_rows(store, store.state, tenant, dict.fromkeys(mine, digest_bytes(b"third")))) == set(mine)


def test_a_row_that_was_not_as_it_was_anchored_is_not_changed() -> None:
    store = Store()
    store.change("acme", {"identity/ada": RowChange(None, ONE)})
    with pytest.raises(Corrupt, match="identity ada"):
        store.change("acme", {"identity/ada": RowChange(OTHER, ONE)})


def test_what_stands_for_every_row_takes_all_of_a_tenant_away() -> None:
    store = Store()
    for tenant in ("acme", "globex"):
        store.change(tenant, {f"key/{n}": RowChange(None, ONE) for n in range(20)})
    store.change("acme", {"*": RowChange(None, None)})
    assert store.names("acme") == ()
    assert store.state == root_over({place_of("globex", f"key/{n}"): ONE for n in range(20)})


@pytest.fixture(autouse=True)
def _nothing_proven_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchored_rows, "_proven", {})


@pytest.mark.parametrize("lie", ["row", "absent", "node"])
def test_a_store_that_answers_wrongly_is_found_out(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.change("acme", {f"identity/{n}": RowChange(None, ONE) for n in range(50)})
    place = place_of("acme", "identity/7")
    bucket = store.rows[bucket_of(place)]
    if lie == "row":
        bucket[place] = OTHER
    elif lie == "absent":
        del bucket[place]
    else:
        beside = next(node for node in store.known if node.level == 3 and node.number != bucket_of(place) >> 12)
        store.known[beside] = bytes(31) + b"\x01"
        monkeypatch.setattr(anchored_rows, "_proven", {})  # another process
    with pytest.raises(Corrupt, match="anchors"):
        differing_rows(store, store.state, "acme", {"identity/7": ONE})
    with pytest.raises(Corrupt):
        store.change("acme", {"identity/7": RowChange(ONE, OTHER)})
