"""Tenants: added, limited, suspended, and removed without a trace but the log.

Removing deletes every row that is the tenant's, the artifacts that nobody else's record leads to, and its files in the workspace. The event
log alone keeps what happened: it names the tenant, its identities and digests, and holds no data of anybody.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field

from tailorbird.auth import Action, check_public_key, verify_sent
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.endpoint import Places
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound
from tailorbird.domain.event import Event
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Identity, Period, QuotaLimits, Role, Signature, Storage, Tenant, Usage, window_start
from tailorbird.domain.value import Name, Value
from tailorbird.system.outward_access import SourceAccess
from tailorbird.usecases.audit_events import Facts, record, require_host
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.identities import add_person, addition
from tailorbird.usecases.registry import PublicKey, usecase
from tailorbird.usecases.storage_quota import reached, stored_by


class Newcomer(Value):
    """Somebody of a new tenant. Their private key was made by whoever sends this, and is not sent.

    ``signature`` is the first admin's over who comes in (as ``identity.add``); that of the admin themselves may be missing.
    """

    name: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    public_key: PublicKey
    signature: Signature | None = None


class TenantView(Value):
    """A tenant, what it has used in the present minute and month, and what it has stored."""

    tenant: Tenant
    minute: Usage
    month: Usage
    storage: Storage = Storage()


class TenantList(Value):
    """Tenants, and what each has used in the present minute and month."""

    tenants: tuple[TenantView, ...]


class Removed(Value):
    """What removing a tenant deleted: rows by table, artifacts, files."""

    tenant: str
    rows: dict[str, int]
    artifacts: int
    files: int


People = Annotated[tuple[Newcomer, ...], Field(min_length=1, max_length=50)]
_UNLIMITED = QuotaLimits()
#: Rows of requests that are deleted in one transaction, for others wait for its end, and seconds between two.
PURGED_AT_ONCE, _BREATH = 1_000, 0.01


@usecase("tenant.add", "POST", "/api/tenants", Action.MANAGE_TENANTS)
def add_tenant(deps: Dependencies, actor: Actor, name: Name, people: People, limits: QuotaLimits = _UNLIMITED) -> Tenant:
    """Add a tenant with its first people.

    An admin must be among them. Raises Conflict (a name is taken, its own or that of one of them), InvalidInput (a key is none).
    """
    require_host(deps, actor)
    for person in people:
        check_public_key(person.public_key)
    if not any(Role.ADMIN in person.roles for person in people):
        raise Conflict("a tenant needs an admin of its own", "send one with the role admin")
    if len({person.public_key for person in people}) < len(people):
        raise Conflict("one key is one person", "make a key for each")
    _require_signed(name, people, deps.clock.now())
    now = deps.clock.now()
    tenant = Tenant(name=name, created_at=now, limits=limits)
    with deps.ledger.system() as system:
        system.tenants.add(tenant)
        system.events.append([_event("tenant.created", tenant, actor, deps)])
        work, admitted = system.of(name), list[Identity]()
        for person in _root_first(people):
            change = addition(name, person.name, person.roles, person.public_key)
            admitted.append(add_person(work, change, f"{actor.tenant}/{actor.name}", now, person.signature, admitted))
    return tenant


@usecase("tenant.limit", "POST", "/api/tenants/{name}/limits", Action.MANAGE_TENANTS)
def limit_tenant(deps: Dependencies, actor: Actor, name: Name, limits: QuotaLimits) -> Tenant:
    """Set the limits of a tenant.

    In place of those it had. Gateways know within a second. Raises NotFound.
    """
    facts: Facts = {key: value for key, value in plain_json(limits).items() if value is not None}
    return _change(deps, actor, name, "tenant.limited", {"limits": limits}, facts)


@usecase("tenant.suspend", "POST", "/api/tenants/{name}/suspend", Action.MANAGE_TENANTS)
def suspend_tenant(deps: Dependencies, actor: Actor, name: Name, *, resume: bool = False) -> Tenant:
    """Answer a tenant's programs nothing, or again.

    With ``resume`` they are answered again. What the tenant has stays. Raises NotFound.
    """
    at = None if resume else deps.clock.now()
    return _change(deps, actor, name, "tenant.resumed" if resume else "tenant.suspended", {"suspended_at": at}, {})


@usecase("tenant.places", "POST", "/api/tenants/{name}/places", Action.MANAGE_TENANTS)
def set_places(deps: Dependencies, actor: Actor, name: Name, places: Places) -> Tenant:
    """Say where what a tenant submits may be read from.

    And with which credential each place, instead of what it had. What is read from now on goes by it. Raises NotFound.
    """
    facts: Facts = {f"place_{number}": f"{place.prefix} ({place.credential})" for number, place in enumerate(places, 1)}
    return _change(deps, actor, name, "tenant.places_set", {"places": places}, facts)


def reach_of(deps: Dependencies, name: str) -> SourceAccess:
    """Where submitted work of a tenant may read at this moment."""
    with deps.ledger.system(write=False) as system:
        return SourceAccess(name, system.tenants.get(name).places, deps.credentials)


@usecase("tenant.policy", "POST", "/api/tenant/policy", Action.SET_POLICY)
def set_policy(deps: Dependencies, actor: Actor, policy: TrafficPolicy) -> Tenant:
    """Say what is kept of the tenant's own traffic.

    What was kept and may not be any more is deleted. Raises Conflict when words are to be kept and nothing here could redact them.
    """
    if policy.store_content and deps.redact is None:
        raise Conflict(
            "words cannot be kept: nothing here takes personal data out of them",
            "install the detectors of personal data, or keep no words",
        )
    now = deps.clock.now()
    with deps.ledger.system() as system:
        changed = system.tenants.get(actor.tenant).model_copy(update={"policy": policy})
        system.tenants.replace(changed)
        told: Facts = plain_json(policy) | {"endpoints": ", ".join(policy.endpoints)}
        system.events.append([_event("tenant.policy_set", changed, actor, deps, told)])
    if not policy.store_content:
        with deps.ledger.work(actor.tenant) as work:
            work.contents.purge(now + timedelta(days=365 * 100))
        deps.ledger.flush(scrub=True)
    return changed


@usecase("tenant.list", "GET", "/api/tenants", Action.SHOW_TENANT)
def list_tenants(deps: Dependencies, actor: Actor) -> TenantList:
    """List tenants with what they use.

    All tenants for an admin of the host; for others their own.
    """
    with deps.ledger.system(write=False) as system:
        known = [tenant for tenant in system.tenants.all().values() if tenant is not None]
    seen = known if deps.host and actor.tenant == deps.host else [tenant for tenant in known if tenant.name == actor.tenant]
    return TenantList(tenants=tuple(_view(deps, tenant) for tenant in seen))


@usecase("tenant.remove", "POST", "/api/tenants/{name}/remove", Action.MANAGE_TENANTS)
def remove_tenant(deps: Dependencies, actor: Actor, name: Name) -> Removed:
    """Remove a tenant with all that is its.

    Its data key goes with its rows: from then on what it has encrypted is noise, also where a file of it is left.

    Raises NotFound, Conflict (the host itself).
    """
    require_host(deps, actor)
    if name == deps.host:
        raise Conflict("the host cannot be removed", "it runs this installation")
    with deps.ledger.system(write=False) as system:
        theirs = set(system.references.digests(of=name))
    files = _files_of(deps, name)
    with deps.ledger.work(name, write=False) as work:
        key = work.data_keys.get()
    scope = key.scope if key else None
    with deps.ledger.system() as system:
        gone = system.tenants.get(name)
        rows = system.tenants.remove(name)
        system.events.append([_event("tenant.removed", gone, actor, deps, {"rows": sum(rows.values())})])
    with deps.ledger.system(write=False) as system:
        kept = set(system.references.digests())
    # The files first: there is nobody any more for whom this could be asked again.
    deleted = sum(map(_delete, files))
    # Deletes what is reached from ``theirs`` and not from ``kept``; how many artifacts.
    store = deps.artifacts
    only_theirs = reached(store, theirs) - reached(store, kept)
    for digest in only_theirs:
        store.destroy(digest)
    artifacts = len(only_theirs) + _forget_sealed(deps, name, scope)
    deps.ledger.flush(scrub=True)
    return Removed(tenant=name, rows=rows, artifacts=artifacts, files=deleted)


def purge(deps: Dependencies) -> int:
    """Deletes kept words and rows of requests whose time is over, and counts of minutes long past; how many rows there were."""
    now = deps.clock.now()
    with deps.ledger.system() as system:
        count = system.usage.prune(now - timedelta(hours=2))

    def purge_tenant(tenant: str) -> int:
        with deps.ledger.work(tenant) as work:
            expired = work.contents.purge(now)
            if expired:
                record(work, "content.purged", "retention", tenant, now, {"count": expired})
        return expired + sum(_purge_requests(deps, tenant))

    return count + sum(for_each_tenant(deps, purge_tenant).all().values())


def _purge_requests(deps: Dependencies, tenant: str) -> Iterator[int]:
    """Deletes rows of requests from days that ended before those that the tenant has kept, a portion a transaction; how many in each.
    Rollouts that go on keep what they count. The policy is read before each portion: who wants to keep more stops it."""
    gone = PURGED_AT_ONCE
    while gone == PURGED_AT_ONCE and (days := _request_days(deps, tenant)) is not None:
        day = (deps.clock.now() - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        with deps.ledger.work(tenant) as work:
            before = min([day, *(rollout.started_at for rollout in work.rollouts.open())])
            gone = work.requests.purge(before, PURGED_AT_ONCE)
            if gone:
                record(work, "requests.purged", "retention", tenant, deps.clock.now(), {"count": gone, "before": before.isoformat()})
        yield gone
        # Whoever waited for the write lock comes first.
        time.sleep(_BREATH)


def _request_days(deps: Dependencies, tenant: str) -> int | None:
    """For how many days rows are kept now; None: always, or there is no such tenant any more."""
    with deps.ledger.system(write=False) as system:
        try:
            return system.tenants.get(tenant).policy.request_days
        except NotFound:
            return None


def _root_first(people: People) -> list[Newcomer]:
    """The first admin, from whose signature the others follow, then these; other admins last: with the second one, dual control begins."""
    root = next(person for person in people if Role.ADMIN in person.roles)
    return sorted(people, key=lambda person: (person is not root, Role.ADMIN in person.roles))


def _require_signed(tenant: str, people: People, now: datetime) -> None:
    """Raises InvalidInput unless the first admin signed for everybody; what they sign for themselves may be missing."""
    root = _root_first(people)[0]
    signer = Identity(tenant=tenant, name=root.name, roles=root.roles, public_key=root.public_key, created_at=now)
    for person in people:
        if person.signature is not None:
            change = addition(tenant, person.name, person.roles, person.public_key)
            verify_sent(person.signature, identity=signer, purpose="identity", digest=digest_of(change))
        elif person is not root:
            raise InvalidInput(
                f"{person.name} is not signed for by the admin of {tenant}",
                f"let {root.name} sign who comes in, or add them afterwards",
                code="signature_missing",
            )


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


def _forget_sealed(deps: Dependencies, name: str, scope: str | None) -> int:
    """Deletes what was encrypted under the key of ``scope``, which is gone; how many files."""
    if deps.keys is not None:
        deps.keys.forget(name)
    if scope is None or deps.sealed_files is None:
        return 0
    files = deps.sealed_files(scope)
    return sum(files.remove(sealed) for sealed in list(files.names()))


def _files_of(deps: Dependencies, name: str) -> list[Path]:
    """Places on this machine that are the tenant's: its keys, the folders of its runs, what its indexes keep,
    and what its releases' traffic is compared with."""
    with deps.ledger.work(name, write=False) as work:
        runs, releases = [run.id for run in work.runs.all()], [release.digest for release in work.releases.all()]
    own = [deps.workspace / place / name for place in ("keys", "indexes", "uploads")]
    of_runs = [folder for run in runs for folder in (deps.runs / run, deps.scratch(run)) if folder]
    return [*own, *of_runs, *map(deps.reference, releases)]


def _delete(path: Path) -> int:
    """Deletes a folder or a file; how many files."""
    count = int(path.is_file()) + sum(1 for file in path.rglob("*") if file.is_file())
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return count
