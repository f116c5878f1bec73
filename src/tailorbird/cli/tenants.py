"""``tailorbird tenant``: who is served here, and how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import auth
from tailorbird.cli.groups import command_group
from tailorbird.cli.limits import with_limits
from tailorbird.cli.session import CommandSession, open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.allowed_places import ANONYMOUS, AllowedPlace
from tailorbird.domain.errors import NotFound
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Role, Tenant
from tailorbird.domain.quota import QuotaLimits, Usage
from tailorbird.system.clock import SystemClock
from tailorbird.usecases.identities import FIRST_PEOPLE, addition
from tailorbird.usecases.tenants import (
    Newcomer,
    TenantView,
    add_tenant,
    limit_tenant,
    list_tenants,
    remove_tenant,
    set_places,
    set_policy,
    suspend_tenant,
)

tenant = command_group()
TenantName = Annotated[str, typer.Argument(help="Name of the tenant.", metavar="TENANT")]
Limited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="NAME=NUMBER or NAME=none, repeatable: requests_per_minute, input_tokens_per_month, output_tokens_…, money_…, storage_bytes.",
    ),
]


@tenant.callback()
def _tenant() -> None:
    """Add, limit, suspend, remove and list tenants; set your tenant's traffic policy."""


@tenant.command("add")
def _add(
    name: TenantName,
    limit: Limited = None,
) -> None:
    """Add a tenant with one identity per role. Key pairs are generated here; only public keys are registered."""
    session = open_session()
    limits, folder = _limits(limit), _own_folder(session, name)
    remove_tenant.request_of(name=name)  # a bad name makes no key
    people = first_people(name, {person: (roles, folder / f"{person}.key") for person, roles in FIRST_PEOPLE.items()})
    added = session.ask_as("admin", add_tenant, name=name, people=people, limits=limits)
    if session.as_json:
        print_json(added)
        return
    out.print(f"tenant {name} is served; its people act with the keys in {folder}", markup=False)
    say(f"next: give each key to its person; a key for programs: tailorbird key create NAME --as {name}/admin")


@tenant.command("limit")
def _limit(name: TenantName, limit: Limited = None) -> None:
    """Show a tenant's limits, or change those that are named; NAME=none lifts one. Effective within a second."""
    session = open_session()
    changed = _present(session, name)
    if limit:
        wanted = with_limits(changed.limits if changed else QuotaLimits(), limit)
        changed = session.ask_as("admin", limit_tenant, name=name, limits=wanted)
    told = changed or _demand(name)
    print_json(told) if session.as_json else out.print(f"{name}: {_told(told.limits)}", markup=False)


@tenant.command("places")
def _places(
    name: TenantName,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="PREFIX or PREFIX=CREDENTIAL, repeatable: s3://bucket/folder=worker, hf://owner, https://host."),
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", help="PREFIX that may be read no more, repeatable; all: every one.")
    ] = None,
) -> None:
    """Show the places that a tenant's submitted data may be read from, allow more, or revoke some.

    CREDENTIAL is none (the default), worker (what the worker's environment holds), or a name among the setting credentials.
    """
    session = open_session()
    changed = _present(session, name)
    if allow or revoke:
        places = _changed_places(changed.places if changed else (), tuple(map(_place, allow or ())), revoke or ())
        changed = session.ask_as("admin", set_places, name=name, places=places)
    told = changed or _demand(name)
    print_json(told) if session.as_json else out.print(f"{name}: {_readable(told.places)}", markup=False)


@tenant.command("suspend")
def _suspend(
    name: TenantName,
    resume: Annotated[bool, typer.Option("--resume", help="Accept its API calls again.")] = False,
) -> None:
    """Reject a tenant's API calls. Its data stay."""
    session = open_session()
    changed = session.ask_as("admin", suspend_tenant, name=name, resume=resume)
    print_json(changed) if session.as_json else out.print(f"{name} is {'served again' if resume else 'suspended'}", markup=False)


@tenant.command("remove")
def _remove(
    name: TenantName,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
) -> None:
    """Remove a tenant with all its rows, artifacts and keys. The audit log remains."""
    if not yes:
        typer.confirm(f"Remove {name} and all that is its, for good?", abort=True, err=True)
    session = open_session()
    gone = session.ask_as("admin", remove_tenant, name=name)
    if session.as_json:
        print_json(gone)
    else:
        told = f"{sum(gone.rows.values())} rows, {gone.artifacts} artifacts, {gone.files} files"
        out.print(f"{name} is removed: {told}; backups that were made before still hold it", markup=False)


@tenant.command("list")
def _list() -> None:
    """List tenants with limits and this month's usage; identities outside the host tenant see their own."""
    session = open_session()
    known = session.ask_as("admin", list_tenants).tenants
    if session.as_json:
        print_json(known)
        return
    print_table(("tenant", "state", "this month", "stored", "limits", "keeps", "reads at"), [_row(view) for view in known])


@tenant.command("policy")
def _policy(
    keep_days: Annotated[int | None, typer.Option(help="Days to keep redacted request texts; 0 deletes them.", min=0, max=3650)] = None,
    review_share: Annotated[float | None, typer.Option(help="Share of answers queued for labelling.", min=0, max=1)] = None,
    keep_requests: Annotated[
        int | None, typer.Option(help="Days to keep rows of requests, 35 at least; 0: they are kept always.", min=0, max=3650)
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", help="Hosted model that your data and requests may be sent to, repeatable; others no more."),
    ] = None,
    no_endpoints: Annotated[bool, typer.Option("--no-endpoints", help="Let no data leave the house.")] = False,
) -> None:
    """Show your tenant's traffic policy, or change what is named; the rest stays."""
    session = open_session()
    tenants = session.ask_as("admin", list_tenants).tenants
    present = next(view.tenant for view in tenants if view.tenant.name == session.tenant)
    named: dict[str, object] = {}
    if keep_days is not None:
        named |= {"store_content": keep_days > 0, "retention_days": keep_days or present.policy.retention_days}
    if review_share is not None:
        named["review_share"] = review_share
    if keep_requests is not None:
        named["request_days"] = keep_requests or None
    if endpoint or no_endpoints:
        named["endpoints"] = () if no_endpoints else tuple(endpoint or ())
    wanted = TrafficPolicy.model_validate(present.policy.model_dump() | named)
    changed = session.ask_as("admin", set_policy, wanted) if named else present
    print_json(changed) if session.as_json else out.print(f"{changed.name}: {_kept(changed.policy)}", markup=False)


def _present(session: CommandSession, name: str) -> Tenant | None:
    """The tenant as it is; None where this person sees no tenant of that name."""
    return next((view.tenant for view in session.ask_as("admin", list_tenants).tenants if view.tenant.name == name), None)


def _demand(name: str) -> Tenant:
    raise NotFound(f"there is no tenant {name!r} that you may see", "see: tailorbird tenant list", code="tenant_missing")


def _changed_places(present: Sequence[AllowedPlace], allowed: Sequence[AllowedPlace], revoked: Sequence[str]) -> tuple[AllowedPlace, ...]:
    """``present`` places without those that are revoked (``all``: every one), and with those that are allowed, by the credential named
    last. Raises NotFound: what is revoked is not allowed."""
    prefixes = {place.prefix for place in present}
    for prefix in revoked:
        if prefix not in (*prefixes, "all"):
            raise NotFound(f"{prefix!r} is not allowed", "see what is: tailorbird tenant places TENANT", code="place_unknown")
    kept = () if "all" in revoked else tuple(place for place in present if place.prefix not in revoked)
    return tuple({place.prefix: place for place in (*kept, *allowed)}.values())


def _row(view: TenantView) -> tuple[str, ...]:
    one = view.tenant
    return (
        one.name,
        "suspended" if one.suspended_at else "",
        _used(view.month),
        f"{view.storage.all_bytes:,} bytes",
        _told(one.limits),
        _kept(one.policy),
        _readable(one.places),
    )


def _used(usage: Usage) -> str:
    return f"{usage.requests:,} requests, {usage.input_tokens:,} + {usage.output_tokens:,} tokens, {usage.money:.4f}"


def _told(limits: QuotaLimits) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in limits.model_dump().items() if value is not None) or "no limits"


def _kept(policy: TrafficPolicy) -> str:
    words = f"words for {policy.retention_days} days" if policy.store_content else "no words"
    words += f", requests for {policy.request_days} days" if policy.request_days else ""
    sent = f"; data may be sent to {', '.join(policy.endpoints)}" if policy.endpoints else ""
    return words + (f", {100 * policy.review_share:g} % reviewed" if policy.review_share else "") + sent


def _place(given: str) -> AllowedPlace:
    prefix, _, credential = given.partition("=")
    return AllowedPlace(prefix=prefix, credential=credential or ANONYMOUS)


def _readable(places: Sequence[AllowedPlace]) -> str:
    return ", ".join(f"{place.prefix} ({place.credential})" for place in places) or "no address"


def _limits(given: list[str] | None) -> QuotaLimits:
    return with_limits(QuotaLimits(), given or ())


def _own_folder(session: CommandSession, name: str) -> Path:
    return Path(f"{name}-keys") if session.server else session.settings.keys / name


def first_people(tenant: str, wanted: Mapping[str, tuple[frozenset[Role], Path]]) -> tuple[Newcomer, ...]:
    """The first people of a tenant, each with a key file, which is made where there is none; the first admin among them signs for all."""
    admin = next(name for name, (roles, _) in wanted.items() if Role.ADMIN in roles)
    publics = {name: auth.public_key(auth.load_key(path)) if path.exists() else auth.create_key(path) for name, (_, path) in wanted.items()}
    key, now = auth.load_key(wanted[admin][1]), SystemClock().now()
    people = []
    for name, (roles, _) in wanted.items():
        signature = auth.sign(key, admin, "identity", digest_of(addition(tenant, name, roles, publics[name])), now)
        people.append(Newcomer(name=name, roles=roles, public_key=publics[name], signature=signature))
    return tuple(people)


apps = {"tenant": tenant}
