"""Rows that the log anchors, on every kind of ledger: whatever changes one is told in its transaction, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import support.ledger_samples as sample
from support.ledger_samples import START, SetClock
from tailorbird.auth import KeyFileSealer
from tailorbird.crypto import anchored_rows
from tailorbird.crypto.anchored_rows import anchored_row
from tailorbird.crypto.log_verification import LogReplay
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.event import Event
from tailorbird.domain.identity import ApiKey, Identity, KeyLimits, Role, Session, Tenant
from tailorbird.domain.release import ReleaseState
from tailorbird.ledger import Ledger, open_ledger

Raw = Callable[..., int]


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """With tenants that are anchored, as all rows of a ledger are that nobody wrote into."""
    with ledger.system() as system:
        for name in ("acme", "globex"):
            system.tenants.remove(name)
            system.tenants.add(Tenant(name=name, created_at=START))
    return ledger


def person(name: str = "ada", roles: frozenset[Role] = frozenset({Role.APPROVER})) -> Identity:
    return Identity(tenant="acme", name=name, roles=roles, public_key="k" * 44, created_at=START)


def api_key(id_: str = "0" * 12) -> ApiKey:
    return ApiKey(id=id_, tenant="acme", name="shop", secret_sha256="0" * 64, created_at=START)


def told(kind: str = "identity.added", tenant: str = "acme") -> Event:
    return Event(kind=kind, tenant=tenant, actor="admin", subject="ada", at=START)


def replayed(ledger: Ledger) -> LogReplay:
    replay = LogReplay()
    with ledger.system(write=False) as system:
        for entry in system.events.entries():
            replay.take(entry)
        assert replay.state() == system.anchors.head().state
    return replay


def wrong(ledger: Ledger) -> list[str]:
    replay = replayed(ledger)
    with ledger.system(write=False) as system:
        kept = list(system.anchors.anchored())
        return [
            problem
            for tenant in ("acme", "globex")
            for where, rows in {
                "record": list(system.anchors.found(tenant)),
                "anchors": [row for row in kept if row.tenant == tenant],
            }.items()
            for problem in replay.differing(tenant, rows, where)
        ]


def test_a_change_is_anchored_by_the_event_of_its_transaction(ledger: Ledger) -> None:
    with ledger.work("acme") as work:
        work.identities.add(person())
        work.events.append([told("first"), told("last")])
    with ledger.system(write=False) as system:
        first, last = list(system.events.entries())[-2:]
    row = anchored_row(person())
    assert first.event.rows == {}
    assert last.event.rows == {"identity/ada": row.digest}
    with ledger.work("acme", write=False) as work:
        assert work.anchors.differing({row.name: row.digest}) == ()
        assert work.anchors.differing({row.name: None, "identity/bob": None}) == (row.name,)
    assert wrong(ledger) == []


def test_every_anchored_row_follows_its_changes(ledger: Ledger, clock: SetClock) -> None:
    release = sample.release("acme")
    with ledger.work("acme") as work:
        work.identities.add(person())
        work.keys.add(api_key())
        work.releases.add(release)
        work.aliases.put(sample.alias("acme"))
        session = Session(
            id="a" * 32, tenant="acme", identity="ada", secret_sha256="0" * 64, created_at=START, expires_at=START + timedelta(hours=8)
        )
        work.sessions.add(session)
    assert wrong(ledger) == []
    with ledger.work("acme") as work:
        work.identities.replace(person(roles=frozenset({Role.ADMIN})))
        work.keys.limit(api_key().id, KeyLimits(requests_per_minute=3))
        work.keys.expire(api_key().id, START + timedelta(days=1))
        work.releases.move(release.digest, release.state, ReleaseState.REJECTED)
        work.sessions.end(session.id, START)
    with ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"suspended_at": START}))
    assert wrong(ledger) == []
    clock.move(30 * 86_400)
    with ledger.work("acme") as work:
        work.sessions.add(session.model_copy(update={"id": "b" * 32, "expires_at": clock.now() + timedelta(hours=1)}))
    assert wrong(ledger) == []
    assert f"session/{session.id}" not in replayed(ledger).rows["acme"]
    with ledger.system() as system:
        system.tenants.remove("acme")
    assert wrong(ledger) == []
    assert not replayed(ledger).rows["acme"]


TAMPERINGS = {
    "a key": ("UPDATE identities SET public_key = 'x'", "record of acme: identity ada is not what the log says"),
    "gone": ("DELETE FROM identities", "record of acme: identity ada is gone, and the log does not say so"),
    "new": (
        "INSERT INTO identities (tenant, name, roles, public_key, created_at, former_keys, admitted_by, pending) "
        "SELECT tenant, 'eve', roles, public_key, created_at, former_keys, admitted_by, pending FROM identities",
        "record of acme: identity eve is there, and the log does not know it",
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_row_that_somebody_edited_is_named(ledger: Ledger, raw: Raw, how: str) -> None:
    with ledger.work("acme") as work:
        work.identities.add(person())
        work.events.append([told()])
    statement, problem = TAMPERINGS[how]
    assert raw(statement)
    assert wrong(ledger) == [problem]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE anchored_rows SET digest = '" + "ab" * 32 + "' WHERE name = 'identity/ada'",
        "DELETE FROM anchored_rows WHERE name = 'identity/ada'",
        "UPDATE log_frontier SET state = '" + "ab" * 32 + "'",
    ],
)
def test_anchors_that_were_edited_are_of_no_use(ledger: Ledger, raw: Raw, statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger.work("acme") as work:
        work.identities.add(person())
    raw(statement)
    monkeypatch.setattr(anchored_rows, "_proven", {})  # as in a process that has proven nothing
    row = anchored_row(person())
    with pytest.raises(Corrupt), ledger.work("acme", write=False) as work:
        work.anchors.differing({row.name: row.digest})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE anchor_nodes SET hash = '" + "ab" * 32 + "' WHERE level = 3",
        "DELETE FROM anchored_rows WHERE name = 'identity/ada'",
    ],
)
def test_nodes_that_somebody_edited_are_counted(ledger: Ledger, raw: Raw, statement: str) -> None:
    """Rows and log were compared with one another, and the nodes that look-ups go by with neither: an edit stopped admission unnamed."""
    with ledger.work("acme") as work:
        work.identities.add(person())
    with ledger.system(write=False) as system:
        assert system.anchors.altered_nodes() == 0
    raw(statement)
    with ledger.system(write=False) as system:
        assert system.anchors.altered_nodes() > 0


@pytest.fixture
def sealed(url: str, tmp_path: Path, clock: SetClock) -> Ledger:
    return open_ledger(url, clock, KeyFileSealer(tmp_path / "workspace"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_frontier SET seal = ''",
        "UPDATE log_frontier SET state = '" + "00" * 32 + "'",
    ],
)
def test_a_head_that_somebody_else_wrote_stops_everything_that_rests_on_it(sealed: Ledger, raw: Raw, statement: str) -> None:
    with sealed.work("acme") as work:
        work.identities.add(person())
    with sealed.work("acme", write=False) as work:
        assert work.anchors.differing({}) == ()
    raw(statement)
    row = anchored_row(person())
    with pytest.raises(Corrupt), sealed.work("acme", write=False) as work:
        work.anchors.differing({row.name: row.digest})
    with pytest.raises(Corrupt), sealed.work("acme") as work:
        work.events.append([told()])
    sealed.close()


def test_a_head_that_was_put_back_is_told_by_the_process_that_saw_it_grow(sealed: Ledger, raw: Raw, url: str) -> None:
    """Somebody restores the log of a moment before, with its seal."""
    with sealed.work("acme") as work:
        work.events.append([told("first")])
    raw("CREATE TABLE kept AS SELECT * FROM log_frontier")
    with sealed.work("acme") as work:
        work.events.append([told("second")])
    with sealed.work("acme") as work:
        work.events.append([told("third")])
    raw("DELETE FROM log_entries WHERE subject = 'ada' AND body LIKE '%second%' OR body LIKE '%third%'")
    raw("DELETE FROM log_frontier")
    raw("INSERT INTO log_frontier SELECT * FROM kept")
    with pytest.raises(Corrupt, match="entries"), sealed.work("acme") as work:
        work.events.append([told("other")])
    sealed.close()
