"""``tailorbird tenant``, ``endpoint``, ``key`` and ``identity``: who is served, by what, and who may do what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tailorbird import auth
from tailorbird.cli.invocation import command_group
from tailorbird.cli.session import CommandSession, answer, list_verb, open_session, out, print_json, say, show
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.endpoint import ANONYMOUS, AllowedPlace, Endpoint
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import USUAL_SCOPES, IdentityChange, KeyLimits, QuotaLimits, Role, Rotation, Scope, Tenant
from tailorbird.domain.value import Value
from tailorbird.system.clock import SystemClock
from tailorbird.usecases import identities
from tailorbird.usecases.endpoints import add_endpoint, list_endpoints, remove_endpoint
from tailorbird.usecases.identities import (
    FIRST_PEOPLE,
    NewKey,
    add_identity,
    addition,
    create_api_key,
    limit_api_key,
    list_api_keys,
    list_identities,
    revoke_api_key,
    rotate_api_key,
)
from tailorbird.usecases.registry import validated
from tailorbird.usecases.sessions import show_session
from tailorbird.usecases.tenants import (
    Newcomer,
    add_tenant,
    limit_tenant,
    list_tenants,
    remove_tenant,
    set_places,
    set_policy,
    suspend_tenant,
)

Limits = TypeVar("Limits", bound=Value)


def with_limits(present: Limits, given: Sequence[str]) -> Limits:
    """``present`` with what is ``given``. Raises ValidationError: there is no such limit, or it is no number."""
    named: dict[str, str | None] = dict(one.partition("=")[::2] for one in given)
    changed = {name: None if value == "none" else value for name, value in named.items()}
    return type(present).model_validate(present.model_dump() | changed)


tenant = command_group("Add, limit, suspend, remove and list tenants; set your tenant's traffic policy.")
TenantName = Annotated[str, typer.Argument(help="Name of the tenant.", metavar="TENANT")]
Limited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="NAME=NUMBER or NAME=none, repeatable: requests_per_minute, input_tokens_per_month, output_tokens_…, money_…, storage_bytes.",
    ),
]


@tenant.command("add")
def _add(
    name: TenantName,
    limit: Limited = None,
) -> None:
    """Add a tenant with one identity per role. Key pairs are generated here; only public keys are registered."""
    session = open_session()
    limits, folder = with_limits(QuotaLimits(), limit or ()), (Path(f"{name}-keys") if session.server else session.settings.keys / name)
    remove_tenant.request_of(name=name)  # a bad name makes no key
    people = first_people(name, {person: (roles, folder / f"{person}.key") for person, roles in FIRST_PEOPLE.items()})
    added = session.ask_as("admin", add_tenant, name=name, people=people, limits=limits)
    show(added, f"tenant {name} is served; its people act with the keys in {folder}")
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
    show(told, f"{name}: {_limits_text(told.limits)}")


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
        present = changed.places if changed else ()
        allowed = tuple(map(_place, allow or ()))
        revoked = revoke or ()
        prefixes = {place.prefix for place in present}
        for prefix in revoked:
            if prefix not in (*prefixes, "all"):
                raise NotFound(f"{prefix!r} is not allowed", "see what is: tailorbird tenant places TENANT")
        kept = () if "all" in revoked else tuple(place for place in present if place.prefix not in revoked)
        places = tuple({place.prefix: place for place in (*kept, *allowed)}.values())
        changed = session.ask_as("admin", set_places, name=name, places=places)
    told = changed or _demand(name)
    show(told, f"{name}: {_readable(told.places)}")


@tenant.command("suspend")
def _suspend(
    name: TenantName,
    resume: Annotated[bool, typer.Option("--resume", help="Accept its API calls again.")] = False,
) -> None:
    """Reject a tenant's API calls. Its data stay."""
    changed = open_session().ask_as("admin", suspend_tenant, name=name, resume=resume)
    show(changed, f"{name} is {'served again' if resume else 'suspended'}")


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
    told = f"{sum(gone.rows.values())} rows, {gone.artifacts} artifacts, {gone.files} files"
    show(gone, f"{name} is removed: {told}; backups that were made before still hold it")


list_verb(
    tenant,
    list_tenants,
    {
        "tenant": "tenant.name",
        "state": lambda view: view.tenant.suspended_at and "suspended",
        "this month": lambda view: (
            f"{view.month.requests:,} requests, {view.month.input_tokens:,} + {view.month.output_tokens:,} tokens, {view.month.money:.4f}"
        ),
        "stored": lambda view: f"{view.storage.all_bytes:,} bytes",
        "limits": lambda view: _limits_text(view.tenant.limits),
        "keeps": lambda view: _kept(view.tenant.policy),
        "reads at": lambda view: _readable(view.tenant.places),
    },
    "List tenants with limits and this month's usage; identities outside the host tenant see their own.",
    who="admin",
)


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
    show(changed, f"{changed.name}: {_kept(changed.policy)}")


def _present(session: CommandSession, name: str) -> Tenant | None:
    """The tenant as it is; None where this person sees no tenant of that name."""
    return next((view.tenant for view in session.ask_as("admin", list_tenants).tenants if view.tenant.name == name), None)


def _demand(name: str) -> Tenant:
    raise NotFound(f"there is no tenant {name!r} that you may see", "see: tailorbird tenant list", code="tenant_missing")


def _limits_text(limits: KeyLimits | QuotaLimits, *, none: str = "no limits") -> str:
    return ", ".join(f"{name}={value:{'' if isinstance(value, int) else 'g'}}" for name, value in limits if value is not None) or none


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


endpoint = command_group("Register, list and remove hosted models (servers of OpenAI's protocol).")
EndpointName = Annotated[str, typer.Argument(help="Name of the endpoint.", metavar="ENDPOINT")]
ForTenants = Annotated[list[str] | None, typer.Option("--tenant", help="Tenant that it is for, repeatable; your own without one.")]


@endpoint.command("add")
def _add_endpoint(
    name: EndpointName,
    url: Annotated[str, typer.Option(help="Address of the server, without /v1.")],
    region: Annotated[str, typer.Option(help="Where the data go and who gets them: 'EU (Frankfurt), Example Ltd, contract of 2026-01'.")],
    key: Annotated[str | None, typer.Option("--key-name", help="Name of its key among the setting endpoint_keys.")] = None,
    price: Annotated[
        tuple[float, float], typer.Option(help="Price of 1,000,000 tokens read, and of 1,000,000 written.", metavar="IN OUT")
    ] = (0.0, 0.0),
    currency: Annotated[str, typer.Option(help="Currency of the prices.")] = "EUR",
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 30.0,
    private: Annotated[bool, typer.Option("--private", help="It may be on this machine or the local network, and without TLS.")] = False,
    tenant: ForTenants = None,
) -> None:
    """Register a hosted model for tenants, in place of one of that name. Their policy and the terms of the data must allow it too."""
    session = open_session()
    fields = {"name": name, "url": url, "region": region, "key": key, "currency": currency, "timeout_s": timeout, "private": private}
    wanted = validated(Endpoint, fields | {"input_price": price[0], "output_price": price[1]})
    tenants = tuple(tenant or (session.tenant,))
    added = session.ask_as("admin", add_endpoint, endpoint=wanted, tenants=tenants)
    show(added, f"{name} is registered for {', '.join(tenants)}")
    say(f"next: the tenant's admin allows it: tailorbird tenant policy --endpoint {name}")


list_verb(
    endpoint,
    list_endpoints,
    {
        "tenant": "tenant",
        "endpoint": "endpoint.name",
        "address": lambda one: one.endpoint.url + (" (private)" if one.endpoint.private else ""),
        "price per 1M tokens": lambda one: f"{one.endpoint.input_price:g} + {one.endpoint.output_price:g} {one.endpoint.currency}",
        "paid this month": lambda one: f"{one.paid:.4g}",
        "timeout": lambda one: f"{one.endpoint.timeout_s:g} s",
        "data go to": "endpoint.region",
        "policy": lambda one: "allows it" if one.allowed else "not allowed",
    },
    "List endpoints of your tenant; people of the host see those of all tenants.",
    who="admin",
)


@endpoint.command("remove")
def _remove_endpoint(name: EndpointName, tenant: ForTenants = None) -> None:
    """Take a hosted model from tenants. Nothing more is sent to it."""
    session = open_session()
    tenants = tuple(tenant or (session.tenant,))
    left = session.ask_as("admin", remove_endpoint, name=name, tenants=tenants)
    show(left, f"{name} is taken from {', '.join(tenants)}")


key = command_group("Create, limit, rotate, revoke and list the tenant's API keys.")
identity = command_group("Add, confirm, disable and list identities; rotate your key.")
KeyId = Annotated[str, typer.Argument(help="Id of the key.", metavar="KEY")]
KeyLimited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="NAME=NUMBER or NAME=none, repeatable: requests_per_minute, requests_per_day, tokens_per_minute, tokens_per_day."
    ),
]
KeyOut = Annotated[Path | None, typer.Option(help="File for the new key. [default: the workspace's keys]")]


@key.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="Name of the key: its purpose.")],
    days: Annotated[int | None, typer.Option(help="Days until expiry.", min=1)] = None,
    scope: Annotated[list[Scope] | None, typer.Option(help="Permitted scope, repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Group whose documents it may retrieve, repeatable.")] = None,
    limit: KeyLimited = None,
) -> None:
    """Create an API key. The secret is printed once, on stdout, and not stored."""
    scopes, groups, limits = frozenset(scope or USUAL_SCOPES), tuple(group or ()), with_limits(KeyLimits(), limit or ())
    wanted = NewKey(name=name, days=days, scopes=scopes, groups=groups, limits=limits)
    made = open_session().ask_as("admin", create_api_key, wanted)
    answer(made)
    say(f"key {made.key.id} ({name}) for tenant {made.key.tenant}; this is its secret, shown once:")
    typer.echo(made.secret)
    say("next: tailorbird serve, which shows the first request; put the secret into $KEY for it")


list_verb(
    key,
    list_api_keys,
    {
        "key": "id",
        "name": "name",
        "scopes": "scopes",
        "groups": lambda one: frozenset(one.groups),
        "state": lambda one: one.revoked_at and "revoked",
        "expires": "expires_at",
        "limits": lambda one: _limits_text(one.limits, none=""),
    },
    "List the tenant's API keys.",
    who="admin",
)


@key.command("limit")
def _limit_key(key_id: KeyId, limit: KeyLimited = None) -> None:
    """Show an API key's limits, in addition to its tenant's, or change those that are named; NAME=none lifts one. Effective within a
    second."""
    session = open_session()
    present = next((one for one in session.ask_as("admin", list_api_keys).keys if one.id == key_id), None)
    if present is None or limit:
        wanted = with_limits(present.limits if present else KeyLimits(), limit or ())
        present = session.ask_as("admin", limit_api_key, id=key_id, limits=wanted)
    limited = present
    text = f"key {limited.id} ({limited.name}): {_limits_text(limited.limits, none='no limits of its own')}"
    show(limited, text)


@key.command("rotate")
def _rotate_key(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(help="Hours until the old key expires.", min=0, max=720)] = 24.0,
) -> None:
    """Rotate an API key: the new secret is printed once, the old one expires after a grace period."""
    made = open_session().ask_as("admin", rotate_api_key, id=key_id, grace_hours=grace_hours)
    answer(made)
    say(f"key {made.key.id} replaces {key_id}, which ends in {grace_hours:g} hours; this is its secret, shown once:")
    typer.echo(made.secret)


@key.command("revoke")
def _revoke(key_id: KeyId) -> None:
    """Revoke an API key. Effective within a second."""
    revoked = open_session().ask_as("admin", revoke_api_key, id=key_id)
    show(revoked, f"key {revoked.id} ({revoked.name}) is revoked")


@identity.command("add")
def _add_identity(
    name: Annotated[str, typer.Argument(help="Name of the identity.")],
    role: Annotated[list[Role], typer.Option(help="Role, repeatable.")],
    key_out: KeyOut = None,
) -> None:
    """Add an identity. The key pair is generated here; only the public key is registered."""
    session = open_session()
    identities.disable.request_of(name=name)  # a bad name makes no key
    if key_out is not None:
        path = key_out
    else:
        path = Path(f"{name}.key") if session.server else session.settings.keys / session.tenant / f"{name}.key"
    public = auth.create_key(path)
    try:
        change = addition(session.tenant, name, frozenset(role), public)
        signature = session.sign("identity", digest_of(change), "admin")
        added = session.ask_as("admin", add_identity, name=name, roles=frozenset(role), public_key=public, signature=signature)
    except (Conflict, Forbidden, InvalidInput):  # it was not added; after any other error it may have been
        path.unlink()
        raise
    if session.as_json:
        print_json(plain_json(added) | {"key": str(path)})
    elif added.pending:
        out.print(f"{name} is proposed, with the key {path}, fingerprint {auth.fingerprint(public)}")
        say(f"next: another admin asks {name} for the fingerprint and confirms it: tailorbird identity confirm {name} --as ADMIN")
    else:
        out.print(f"{name} can act with {path}, fingerprint {auth.fingerprint(public)}")


@identity.command("confirm")
def _confirm(
    name: Annotated[str, typer.Argument(help="Name of the identity.")],
    yes: Annotated[bool, typer.Option("--yes", help="Skip the question.")] = False,
    public_key: Annotated[
        str, typer.Option(help="Public key or fingerprint, as its owner told you; it must match. Skips the question.")
    ] = "",
) -> None:
    """Confirm an identity as second admin: its roles and public key, which are shown, signed with your own key."""
    session = open_session()
    identities.confirm.request_of(name=name)
    found = next((one for one in session.ask_as("admin", list_identities).identities if one.name == name), None)
    if found is None:
        raise NotFound(f"no identity {name} in {session.tenant}", "list them with: tailorbird identity list", code="identity_missing")
    before = ", ".join(found.admitted_by) or "nobody known"
    say(f"{name}: {', '.join(sorted(found.roles))}; signed by {before}")
    say(f"public key {found.public_key}, fingerprint {auth.fingerprint(found.public_key)}")
    if public_key and public_key not in (found.public_key, auth.fingerprint(found.public_key)):
        raise Conflict(f"{name} is recorded with another public key", "ask its owner; the admin who added it used another")
    if not (yes or public_key):
        typer.confirm(f"Did {name} tell you this fingerprint, and are these roles theirs?", abort=True, err=True)
    signature = session.sign("identity", digest_of(addition(session.tenant, name, found.roles, found.public_key)), "admin")
    confirmed = session.ask_as("admin", identities.confirm, name=name, signature=signature)
    show(confirmed, f"{name} is confirmed by {session.name('admin')}")


list_verb(
    identity,
    list_identities,
    {
        "identity": "name",
        "roles": "roles",
        "state": lambda one: "disabled" if one.disabled_at else "waits for a second admin" if one.pending else "",
        "admitted by": "admitted_by",
        "fingerprint": lambda one: auth.fingerprint(one.public_key),
    },
    "List the tenant's identities.",
)


@identity.command("disable")
def _disable(name: Annotated[str, typer.Argument(help="Name of the identity.")]) -> None:
    """Disable an identity. Its earlier approvals remain valid."""
    session = open_session()
    identities.disable.request_of(name=name)  # a bad name is told before a key is asked for
    change = IdentityChange(tenant=session.tenant, identity=name, change="disable")
    signature = session.sign("identity", digest_of(change), "admin")
    disabled = session.ask_as("admin", identities.disable, name=name, signature=signature)
    show(disabled, f"{disabled.name} is disabled")


@identity.command("rotate")
def _rotate(
    leaked: Annotated[bool, typer.Option("--leaked", help="The current key leaked: its signatures become invalid.")] = False,
) -> None:
    """Rotate the acting identity's key. The old file is kept as NAME.key.old."""
    session = open_session()
    path = session.key_file()
    fresh = path.with_name(path.name + ".new")
    if not fresh.exists():
        auth.create_key(fresh)
    # Both keys sign the change. One that was cut off after the record took it is found done: the new key is the identity's
    # already.
    old, new = auth.load_key(path), auth.load_key(fresh)
    rotation = Rotation(tenant=session.tenant, identity=session.name(), public_key=auth.public_key(new), leaked=leaked)
    if _acts(session, fresh):
        pass
    else:
        digest, now = digest_of(rotation), SystemClock().now()
        present, proof = (auth.sign(key, session.name(), "rotate", digest, now) for key in (old, new))
        session.ask(identities.rotate, rotation=rotation, present=present, proof=proof)
    path.replace(path.with_name(path.name + ".old"))
    fresh.replace(path)
    if session.as_json:
        print_json({"tenant": session.tenant, "name": session.name(), "key": str(path)})
    else:
        mark = auth.fingerprint(auth.public_key(auth.load_key(path)))
        out.print(f"{session.name()} acts with a new key, {path}, fingerprint {mark}")


def _acts(session: CommandSession, key: Path) -> bool:
    """True when ``key`` is already the acting identity's."""
    try:
        replace(session, key=key).ask(show_session)
    except (Forbidden, Unauthenticated):
        return False
    return True


apps = {"tenant": tenant, "endpoint": endpoint, "key": key, "identity": identity}
