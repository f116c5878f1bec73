"""Tenants: added, limited, suspended, and removed without a trace but the log.

Removing deletes every row that is the tenant's, the artifacts that nobody else's record leads to, and its files in the workspace. The event
log alone keeps what happened: it names the tenant, its identities and digests, and holds no data of anybody.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from typing import get_args

from tailorbird.auth import check_public_key
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.allowed_places import AllowedPlace
from tailorbird.domain.errors import Conflict, Forbidden
from tailorbird.domain.event import Event
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Identity, Role, Tenant
from tailorbird.domain.quota import Period, QuotaLimits, Storage, Usage, window_start
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ErasableStore
from tailorbird.system.source_access import SourceAccess
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.storage_quota import reached, stored_by


class Newcomer(Value):
    """Somebody of a new tenant, by the public half of a key that was made elsewhere."""

    name: str
    roles: frozenset[Role]
    public_key: str


class TenantView(Value):
    """A tenant, what it has used in the present minute and month, and what it has stored."""

    tenant: Tenant
    minute: Usage
    month: Usage
    storage: Storage = Storage()


class Removed(Value):
    """What removing a tenant deleted: rows by table, artifacts, files."""

    tenant: str
    rows: dict[str, int]
    artifacts: int
    files: int


def require_host(deps: Dependencies, actor: Actor) -> None:
    """Raises Forbidden unless the actor belongs to the tenant that runs this installation."""
    if not deps.host or actor.tenant != deps.host:
        raise Forbidden("only admins of the host add, limit and remove tenants", "ask who runs this installation", code="not_host")


def add_tenant(deps: Dependencies, actor: Actor, name: str, people: Iterable[Newcomer], limits: QuotaLimits) -> Tenant:
    """Makes a tenant with its first people. Raises Conflict (the name is taken), InvalidInput (a key is none)."""
    require_host(deps, actor)
    newcomers = tuple(people)
    for person in newcomers:
        check_public_key(person.public_key)
    if not any(Role.ADMIN in person.roles for person in newcomers):
        raise Conflict("a tenant needs an admin of its own", "send one with the role admin", code="tenant_without_admin")
    if len({person.public_key for person in newcomers}) < len(newcomers):
        raise Conflict("one key is one person", "make a key for each", code="key_reused")
    now = deps.clock.now()
    tenant = Tenant(name=name, created_at=now, limits=limits)
    with deps.ledger.system() as system:
        system.tenants.add(tenant)
        system.events.append([_event("tenant.created", tenant, actor, deps)])
    with deps.ledger.work(name) as work:
        for person in newcomers:
            work.identities.add(Identity(tenant=name, name=person.name, roles=person.roles, public_key=person.public_key, created_at=now))
            record(work, "identity.added", f"{actor.tenant}/{actor.name}", person.name, now, {"roles": ",".join(sorted(person.roles))})
    return tenant


def limit_tenant(deps: Dependencies, actor: Actor, name: str, limits: QuotaLimits) -> Tenant:
    """Sets the limits of a tenant, in place of those it had. Gateways know within a second. Raises NotFound."""
    facts: Facts = {key: value for key, value in plain_json(limits).items() if value is not None}
    return _change(deps, actor, name, "tenant.limited", {"limits": limits}, facts)


def suspend_tenant(deps: Dependencies, actor: Actor, name: str, *, resume: bool) -> Tenant:
    """Has a tenant's programs be answered nothing, or again. What it has stays. Raises NotFound."""
    at = None if resume else deps.clock.now()
    return _change(deps, actor, name, "tenant.resumed" if resume else "tenant.suspended", {"suspended_at": at}, {})


def set_places(deps: Dependencies, actor: Actor, name: str, places: tuple[AllowedPlace, ...]) -> Tenant:
    """Says where what a tenant submits may be read from, in place of what it had. What is read from now on goes by it. Raises NotFound."""
    facts: Facts = {f"place_{number}": f"{place.prefix} ({place.credential})" for number, place in enumerate(places, 1)}
    return _change(deps, actor, name, "tenant.places_set", {"places": places}, facts)


def reach_of(deps: Dependencies, name: str) -> SourceAccess:
    """Where submitted work of a tenant may read at this moment."""
    with deps.ledger.system(write=False) as system:
        return SourceAccess(name, system.tenants.get(name).places, deps.credentials)


def set_policy(deps: Dependencies, actor: Actor, policy: TrafficPolicy) -> Tenant:
    """Says what is kept of the traffic of the actor's own tenant. What was kept and may not be any more is deleted.

    Raises Conflict when words are to be kept and nothing here could redact them.
    """
    if policy.store_content and deps.redact is None:
        raise Conflict(
            "words cannot be kept: nothing here takes personal data out of them",
            "install the detectors of personal data, or keep no words",
            code="redactor_missing",
        )
    now = deps.clock.now()
    with deps.ledger.system() as system:
        changed = system.tenants.get(actor.tenant).model_copy(update={"policy": policy})
        system.tenants.replace(changed)
        system.events.append([_event("tenant.policy_set", changed, actor, deps, plain_json(policy))])
    if not policy.store_content:
        with deps.ledger.work(actor.tenant) as work:
            work.contents.purge(now + timedelta(days=365 * 100))
    return changed


def view_tenants(deps: Dependencies, actor: Actor) -> tuple[TenantView, ...]:
    """All tenants for an admin of the host; for others their own."""
    with deps.ledger.system(write=False) as system:
        known = system.tenants.all()
    seen = known if deps.host and actor.tenant == deps.host else [tenant for tenant in known if tenant.name == actor.tenant]
    return tuple(_view(deps, tenant) for tenant in seen)


def remove_tenant(deps: Dependencies, actor: Actor, name: str) -> Removed:
    """Deletes a tenant and all that is its. Raises NotFound, Conflict (the host itself)."""
    require_host(deps, actor)
    if name == deps.host:
        raise Conflict("the host cannot be removed", "it runs this installation", code="tenant_host")
    with deps.ledger.system(write=False) as system:
        theirs = set(system.references.digests(of=name))
    files = _files_of(deps, name)
    with deps.ledger.system() as system:
        gone = system.tenants.get(name)
        rows = system.tenants.remove(name)
        system.events.append([_event("tenant.removed", gone, actor, deps, {"rows": sum(rows.values())})])
    with deps.ledger.system(write=False) as system:
        kept = set(system.references.digests())
    artifacts = _forget(deps.artifacts, theirs, kept)
    return Removed(tenant=name, rows=rows, artifacts=artifacts, files=sum(_delete(deps, path) for path in files))


def purge(deps: Dependencies) -> int:
    """Deletes kept words whose time is over, and counts of minutes long past; how many rows there were."""
    now = deps.clock.now()
    with deps.ledger.system() as system:
        tenants = [tenant.name for tenant in system.tenants.all()]
        count = system.usage.prune(now - timedelta(hours=2))
    for tenant in tenants:
        with deps.ledger.work(tenant) as work:
            expired = work.contents.purge(now)
            if expired:
                record(work, "content.purged", "retention", tenant, now, {"count": expired})
            count += expired
    return count


def _change(deps: Dependencies, actor: Actor, name: str, kind: str, update: dict[str, object], facts: Facts) -> Tenant:
    require_host(deps, actor)
    with deps.ledger.system() as system:
        changed = system.tenants.get(name).model_copy(update=update)
        system.tenants.replace(changed)
        system.events.append([_event(kind, changed, actor, deps, facts)])
    return changed


def _event(kind: str, tenant: Tenant, actor: Actor, deps: Dependencies, facts: Facts | None = None) -> Event:
    """Who acts belongs to another tenant, and is named with it."""
    return Event(
        kind=kind, tenant=tenant.name, actor=f"{actor.tenant}/{actor.name}", subject=tenant.name, at=deps.clock.now(), data=facts or {}
    )


def _view(deps: Dependencies, tenant: Tenant) -> TenantView:
    now = deps.clock.now()
    starts = {period: window_start(period, now) for period in get_args(Period)}
    with deps.ledger.work(tenant.name, write=False) as work:
        minute, month = (
            Usage(gateway="all", period=period, start=start, **work.usage.used(period, start)._asdict()) for period, start in starts.items()
        )
    return TenantView(tenant=tenant, minute=minute, month=month, storage=stored_by(deps, tenant.name))


def _forget(store: ErasableStore, theirs: set[Digest], kept: set[Digest]) -> int:
    """Deletes what is reached from ``theirs`` and not from ``kept``; how many artifacts."""
    only_theirs = reached(store, theirs) - reached(store, kept)
    for digest in only_theirs:
        store.destroy(digest)
    return len(only_theirs)


def _files_of(deps: Dependencies, name: str) -> list[str]:
    """Places in the workspace that are the tenant's: its keys, the folders of its runs, what its curations keep."""
    with deps.ledger.work(name, write=False) as work:
        runs = [f"runs/{run.id}" for run in work.runs.all()]
    return [f"keys/{name}", f"curations/{name}", *runs]


def _delete(deps: Dependencies, place: str) -> int:
    path = deps.workspace / place
    count = sum(1 for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
    shutil.rmtree(path, ignore_errors=True)
    return count
