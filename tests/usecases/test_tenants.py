"""Tenants: added, limited, suspended by the host alone; removed so that no table, artifact or file holds anything of them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, select

import support.ledger_samples as sample
from support.serving import make_release
from tailorbird import auth
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import Conflict, Forbidden, NotFound, Unavailable
from tailorbird.domain.feedback import Feedback, FeedbackKind, KeptWords, Review, ReviewReason, TrafficPolicy
from tailorbird.domain.identity import QuotaLimits, Role, Usage
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.rollout import RolloutState
from tailorbird.domain.value import Digest
from tailorbird.ledger.tables import metadata
from tailorbird.usecases import Actor, Dependencies, tenants
from tailorbird.usecases.identities import act_as, key_path

LIMITS = QuotaLimits(requests_per_minute=3)


@pytest.fixture
def host(deps: Dependencies) -> Dependencies:
    return replace(deps, host="acme")


@pytest.fixture
def admin(host: Dependencies) -> Actor:
    return act_as(host, "acme", "admin")


def add(host: Dependencies, admin: Actor, name: str = "globex") -> None:
    public = auth.create_key(key_path(host, name, "admin"))
    tenants.add_tenant(host, admin, name, (tenants.Newcomer(name="admin", roles=frozenset({Role.ADMIN}), public_key=public),), LIMITS)


def events(deps: Dependencies, kind: str) -> list[str]:
    with deps.ledger.system(write=False) as system:
        return [entry.event.subject for entry in system.events.entries() if entry.event.kind == kind]


def test_another_tenants_admin_may_do_none_of_it_and_sees_its_own_alone(host: Dependencies, admin: Actor) -> None:
    add(host, admin)
    theirs = act_as(host, "globex", "admin")
    with pytest.raises(Forbidden):
        tenants.limit_tenant(host, theirs, "acme", QuotaLimits())
    with pytest.raises(Forbidden):
        tenants.remove_tenant(host, theirs, "acme")
    assert [view.tenant.name for view in tenants.list_tenants(host, theirs).tenants] == ["globex"]


def test_a_tenant_needs_an_admin_and_the_host_stays(host: Dependencies, admin: Actor) -> None:
    public = auth.create_key(host.workspace / "one.key")
    with pytest.raises(Conflict):
        tenants.add_tenant(host, admin, "globex", (tenants.Newcomer(name="a", roles=frozenset({Role.VIEWER}), public_key=public),), LIMITS)
    with pytest.raises(Conflict):
        tenants.remove_tenant(host, admin, "acme")
    with pytest.raises(NotFound):
        tenants.remove_tenant(host, admin, "nobody")


def furnish(deps: Dependencies, tenant: str, adapter: Digest) -> None:
    """A row in every table that a tenant can have rows in, as far as serving goes."""
    now = deps.clock.now()
    release = make_release(tenant, 1, TaskKind.CLASSIFY, now, adapter=adapter)
    row = sample.request(tenant).model_copy(update={"id": "req_1", "alias": f"{tenant}/desk", "release": release.digest, "at": now})
    with deps.ledger.work(tenant) as work:
        work.releases.add(release)
        work.aliases.put(Alias(tenant=tenant, name="desk", targets=(AliasTarget(release=release.digest),), moved_at=now, moved_by="olga"))
        work.requests.add([row])
        work.usage.add([Usage(gateway="g", period="month", start=now, requests=1)])
        work.feedback.put(Feedback(tenant=tenant, request="req_1", kind=FeedbackKind.THUMB, source="key", value="up", score=1.0, at=now))
        work.reviews.add([Review(tenant=tenant, request="req_1", alias=row.alias, reason=ReviewReason.SAMPLE, queued_at=now)])
        words = KeptWords(tenant=tenant, request="req_1", text=f"secret words of {tenant}", answer="refund", at=now, expires_at=now)
        work.contents.add([words])


def rows_that_name(deps: Dependencies, tenant: str) -> dict[str, int]:
    """By table, how many rows hold the tenant's name anywhere; the database is read without any of our code."""
    engine = create_engine(f"sqlite:///{deps.workspace / 'tailorbird.db'}")
    found = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            count = sum(re.search(rf"\b{tenant}\b", str(tuple(row))) is not None for row in connection.execute(select(table)))
            if count:
                found[table.name] = count
    engine.dispose()
    return found


def files_that_hold(folder: Path, words: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


def tree(deps: Dependencies, folder: Path, *files: str) -> Digest:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_text(f"weights of {name}")
    return deps.artifacts.put_tree(folder)


def test_a_tenant_that_is_removed_leaves_nothing_behind(host: Dependencies, admin: Actor, tmp_path: Path) -> None:
    add(host, admin)
    own, shared = tree(host, tmp_path / "own", "globex-only", "base"), tree(host, tmp_path / "shared", "base")
    furnish(host, "globex", own)
    furnish(host, "acme", shared)
    host.artifacts.get_tree(own)
    assert files_that_hold(host.workspace, b"weights of globex-only")
    assert files_that_hold(host.workspace, b"secret words of globex")
    with host.ledger.work("globex", write=False) as work:
        (released,) = work.releases.all()
    host.reference(released.digest).parent.mkdir(exist_ok=True)
    host.reference(released.digest).write_text("sketches")
    assert set(rows_that_name(host, "globex")) > {
        "tenants",
        "identities",
        "releases",
        "requests",
        "usage",
        "feedback",
        "reviews",
        "contents",
    }

    gone = tenants.remove_tenant(host, admin, "globex")

    assert rows_that_name(host, "globex").keys() == {"log_entries"}
    assert gone.rows["requests"] == 1
    assert gone.artifacts == 2  # the tree and the file that nobody else's record leads to
    assert not files_that_hold(host.workspace, b"weights of globex-only")
    assert not files_that_hold(host.workspace, b"secret words of globex"), "nor does the log of changes beside the database"
    assert not host.reference(released.digest).exists()
    assert not (host.workspace / "keys" / "globex").exists()
    assert not host.artifacts.exists(own)
    assert (host.artifacts.get_tree(shared) / "base").read_text() == "weights of base"
    with host.ledger.work("acme", write=False) as work:
        assert work.contents.get("req_1") is not None
    with pytest.raises(NotFound), host.ledger.work("globex"):
        pass
    assert events(host, "tenant.removed") == ["globex"]


def test_words_go_when_their_time_is_over_or_the_policy_changes(host: Dependencies, admin: Actor) -> None:
    own = host.artifacts.put(b"{}")
    furnish(host, "acme", own)
    assert tenants.purge(host) == 1
    with host.ledger.work("acme", write=False) as work:
        assert work.contents.get("req_1") is None
    wanted = TrafficPolicy(store_content=True, retention_days=7)
    with pytest.raises(Conflict):
        tenants.set_policy(host, admin, wanted)
    tenants.set_policy(replace(host, redact=str.upper), admin, wanted)
    with host.ledger.system(write=False) as system:
        assert system.tenants.get("acme").policy.retention_days == 7


def test_the_keys_of_a_removed_tenant_go_whatever_the_database_says_then(
    host: Dependencies, admin: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no such tenant any more: nobody can ask for it again."""
    add(host, admin)
    assert (host.workspace / "keys" / "globex").exists()

    def full(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full", "make room")

    monkeypatch.setattr(type(host.ledger), "flush", full)
    with pytest.raises(Unavailable):
        tenants.remove_tenant(host, admin, "globex")
    assert not (host.workspace / "keys" / "globex").exists()


def test_rows_of_requests_go_with_the_days_that_the_policy_keeps(host: Dependencies, admin: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole days, a portion a transaction, each told; what a rollout that goes on counts stays until it has ended."""
    monkeypatch.setattr(tenants, "PURGED_AT_ONCE", 2)
    now = host.clock.now()
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    ages = {"newest": now, "kept": day - timedelta(days=40), "last": day - timedelta(days=40, seconds=1)}
    ages |= {f"old-{number}": day - timedelta(days=50, hours=number) for number in range(4)}
    rollout = sample.rollout("acme").model_copy(update={"started_at": ages["old-0"]})

    def left() -> set[str]:
        assert tenants.purge(host) >= 0
        with host.ledger.work("acme", write=False) as work:
            return {row.id for row in work.requests.latest()}

    with host.ledger.work("acme") as work:
        work.requests.add([sample.request("acme").model_copy(update={"id": name, "at": at}) for name, at in ages.items()])
        work.rollouts.add(rollout)
    assert left() == ages.keys(), "nothing goes that nobody let go"
    tenants.set_policy(host, admin, TrafficPolicy(request_days=40))
    assert left() == {"newest", "kept", "last", "old-0"}
    with host.ledger.work("acme") as work:
        work.rollouts.replace(rollout.model_copy(update={"state": RolloutState.PROMOTED, "revision": rollout.revision + 1}))
    assert left() == {"newest", "kept"}
    with host.ledger.system(write=False) as system:
        told = [entry.event.data["count"] for entry in system.events.entries() if entry.event.kind == "requests.purged"]
    assert told == [2, 1, 2]
    with pytest.raises(ValidationError):
        TrafficPolicy(request_days=30)
