"""``tailorbird tenant``: who is served here, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import auth
from tailorbird.cli.groups import CommandGroup
from tailorbird.cli.session import CommandSession, open_session, out, print_json, print_table, say
from tailorbird.domain.allowed_places import ANONYMOUS, AllowedPlace
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.quota import QuotaLimits, Usage
from tailorbird.usecases.identities import FIRST_PEOPLE
from tailorbird.usecases.operations import Nothing
from tailorbird.usecases.operations import tenants as asking
from tailorbird.usecases.tenants import TenantView

tenant = typer.Typer(cls=CommandGroup, add_completion=False, no_args_is_help=True)
TenantName = Annotated[str, typer.Argument(help="Name of the tenant.", metavar="TENANT")]
Limited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="NAME=NUMBER, several times: requests_per_minute, input_tokens_per_month, output_tokens_…, money_…, storage_bytes."
    ),
]


@tenant.callback()
def _tenant() -> None:
    """Add, limit, suspend, remove and list tenants; say what is kept of the traffic of yours."""


@tenant.command("add")
def _add(
    name: TenantName,
    limit: Limited = None,
) -> None:
    """Add a tenant with one person a role. Their keys are made here, and only the public halves are told."""
    session = open_session()
    limits, folder = _limits(limit), _own_folder(session, name)
    asking.OneTenant(name=name)  # a bad name makes no key
    people = tuple(
        asking.FirstPerson(name=person, roles=roles, public_key=_public(folder / f"{person}.key")) for person, roles in FIRST_PEOPLE.items()
    )
    added = session.ask(asking.ADD, asking.NewTenant(name=name, people=people, limits=limits), "admin")
    if session.as_json:
        print_json(added)
        return
    out.print(f"tenant {name} is served; its people act with the keys in {folder}", markup=False)
    say(f"next: give each key to its person; a key for programs: tailorbird key create NAME --as {name}/admin")


@tenant.command("limit")
def _limit(name: TenantName, limit: Limited = None) -> None:
    """Set the limits of a tenant; those that are not named are lifted. Gateways know within a second."""
    session = open_session()
    changed = session.ask(asking.LIMIT, asking.NewLimits(name=name, limits=_limits(limit)), "admin")
    print_json(changed) if session.as_json else out.print(f"{name}: {_told(changed.limits)}", markup=False)


@tenant.command("places")
def _places(
    name: TenantName,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="PREFIX or PREFIX=CREDENTIAL, several times: s3://bucket/folder=worker, hf://owner, https://host."),
    ] = None,
) -> None:
    """Say where what a tenant submits may be read from; places that are not named are taken back.

    CREDENTIAL is none (the default), worker (what the worker's environment holds), or a name among the setting credentials.
    """
    wanted = asking.NewPlaces(name=name, places=tuple(map(_place, allow or ())))
    session = open_session()
    changed = session.ask(asking.PLACES, wanted, "admin")
    print_json(changed) if session.as_json else out.print(f"{name}: {_readable(changed.places)}", markup=False)


@tenant.command("suspend")
def _suspend(
    name: TenantName,
    resume: Annotated[bool, typer.Option("--resume", help="Answer its programs again.")] = False,
) -> None:
    """Answer a tenant's programs nothing. What it has stays."""
    session = open_session()
    changed = session.ask(asking.SUSPEND, asking.Suspension(name=name, resume=resume), "admin")
    print_json(changed) if session.as_json else out.print(f"{name} is {'served again' if resume else 'suspended'}", markup=False)


@tenant.command("remove")
def _remove(
    name: TenantName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a tenant with every row, artifact and key that is its. The event log alone keeps what happened."""
    if not yes:
        typer.confirm(f"Remove {name} and all that is its, for good?", abort=True, err=True)
    session = open_session()
    gone = session.ask(asking.REMOVE, asking.OneTenant(name=name), "admin")
    if session.as_json:
        print_json(gone)
    else:
        told = f"{sum(gone.rows.values())} rows, {gone.artifacts} artifacts, {gone.files} files"
        out.print(f"{name} is removed: {told}; backups that were made before still hold it", markup=False)


@tenant.command("list")
def _list() -> None:
    """List tenants, their limits and what they have used this month: all for the host's people, for others their own."""
    session = open_session()
    known = session.ask(asking.LIST, Nothing(), "admin").tenants
    if session.as_json:
        print_json(known)
        return
    print_table(("tenant", "state", "this month", "stored", "limits", "keeps", "reads at"), [_row(view) for view in known])


@tenant.command("policy")
def _policy(
    keep_days: Annotated[int, typer.Option(help="Days for which words are kept, redacted; 0: none are.", min=0, max=3650)] = 0,
    review_share: Annotated[float, typer.Option(help="Share of the answers that people look at.", min=0, max=1)] = 0.0,
) -> None:
    """Say what is kept of your own tenant's traffic. Without --keep-days no words are, and those that were are deleted."""
    wanted = TrafficPolicy(store_content=keep_days > 0, retention_days=keep_days or 30, review_share=review_share)
    session = open_session()
    changed = session.ask(asking.POLICY, wanted, "admin")
    print_json(changed) if session.as_json else out.print(f"{changed.name}: {_kept(changed.policy)}", markup=False)


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
    return words + (f", {100 * policy.review_share:g} % reviewed" if policy.review_share else "")


def _place(given: str) -> AllowedPlace:
    prefix, _, credential = given.partition("=")
    return AllowedPlace(prefix=prefix, credential=credential or ANONYMOUS)


def _readable(places: Sequence[AllowedPlace]) -> str:
    return ", ".join(f"{place.prefix} ({place.credential})" for place in places) or "no address"


def _limits(given: list[str] | None) -> QuotaLimits:
    named = dict(one.partition("=")[::2] for one in given or ())
    return QuotaLimits.model_validate(named)


def _own_folder(session: CommandSession, name: str) -> Path:
    return Path(f"{name}-keys") if session.server else session.settings.keys / name


def _public(path: Path) -> str:
    return auth.public_key(auth.load_key(path)) if path.exists() else auth.create_key(path)


apps = {"tenant": tenant}
