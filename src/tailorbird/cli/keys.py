"""``tailorbird key`` and ``tailorbird identity``: who may come in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import auth
from tailorbird.cli.groups import command_group
from tailorbird.cli.limits import with_limits
from tailorbird.cli.session import CommandSession, open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from tailorbird.domain.identity import USUAL_SCOPES, Identity, IdentityChange, Role, Rotation, Scope
from tailorbird.domain.quota import KeyLimits
from tailorbird.system.clock import SystemClock
from tailorbird.usecases import identities
from tailorbird.usecases.identities import (
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
from tailorbird.usecases.sessions import show_session

key = command_group()
identity = command_group()
KeyId = Annotated[str, typer.Argument(help="Id of the key.", metavar="KEY")]
KeyLimited = Annotated[
    list[str] | None,
    typer.Option(
        "--limit", help="NAME=NUMBER or NAME=none, repeatable: requests_per_minute, requests_per_day, tokens_per_minute, tokens_per_day."
    ),
]
KeyOut = Annotated[Path | None, typer.Option(help="File for the new key. [default: the workspace's keys]")]


@key.callback()
def _key() -> None:
    """Create, limit, rotate, revoke and list the tenant's API keys."""


@identity.callback()
def _identity() -> None:
    """Add, confirm, disable and list identities; rotate your key."""


@key.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="Name of the key: its purpose.")],
    days: Annotated[int | None, typer.Option(help="Days until expiry.", min=1)] = None,
    scope: Annotated[list[Scope] | None, typer.Option(help="Permitted scope, repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Group whose documents it may retrieve, repeatable.")] = None,
    limit: KeyLimited = None,
) -> None:
    """Create an API key. The secret is printed once, on stdout, and not stored."""
    scopes, groups, limits = frozenset(scope or USUAL_SCOPES), tuple(group or ()), _limits(limit)
    wanted = NewKey(name=name, days=days, scopes=scopes, groups=groups, limits=limits)
    session = open_session()
    made = session.ask_as("admin", create_api_key, wanted)
    if session.as_json:
        print_json(made)
        return
    say(f"key {made.key.id} ({name}) for tenant {made.key.tenant}; this is its secret, shown once:")
    typer.echo(made.secret)
    say("next: tailorbird serve, which shows the first request; put the secret into $KEY for it")


@key.command("list")
def _list_keys() -> None:
    """List the tenant's API keys."""
    session = open_session()
    known = session.ask_as("admin", list_api_keys).keys
    if session.as_json:
        print_json(known)
        return
    rows = [
        (
            k.id,
            k.name,
            ", ".join(sorted(k.scopes)),
            ", ".join(sorted(k.groups)),
            "revoked" if k.revoked_at else "",
            f"{k.expires_at:%Y-%m-%d %H:%M}" if k.expires_at else "",
            _told(k.limits),
        )
        for k in known
    ]
    print_table(("key", "name", "scopes", "groups", "state", "expires", "limits"), rows)


@key.command("limit")
def _limit(key_id: KeyId, limit: KeyLimited = None) -> None:
    """Show an API key's limits, in addition to its tenant's, or change those that are named; NAME=none lifts one. Effective within a
    second."""
    session = open_session()
    present = next((one for one in session.ask_as("admin", list_api_keys).keys if one.id == key_id), None)
    if present is None or limit:
        wanted = with_limits(present.limits if present else KeyLimits(), limit or ())
        present = session.ask_as("admin", limit_api_key, id=key_id, limits=wanted)
    limited = present
    text = f"key {limited.id} ({limited.name}): {_told(limited.limits) or 'no limits of its own'}"
    print_json(limited) if session.as_json else out.print(text, markup=False)


def _limits(given: list[str] | None) -> KeyLimits:
    return with_limits(KeyLimits(), given or ())


def _told(limits: KeyLimits) -> str:
    return ", ".join(f"{name}={value}" for name, value in limits if value is not None)


@key.command("rotate")
def _rotate_key(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(help="Hours until the old key expires.", min=0, max=720)] = 24.0,
) -> None:
    """Rotate an API key: the new secret is printed once, the old one expires after a grace period."""
    session = open_session()
    made = session.ask_as("admin", rotate_api_key, id=key_id, grace_hours=grace_hours)
    if session.as_json:
        print_json(made)
        return
    say(f"key {made.key.id} replaces {key_id}, which ends in {grace_hours:g} hours; this is its secret, shown once:")
    typer.echo(made.secret)


@key.command("revoke")
def _revoke(key_id: KeyId) -> None:
    """Revoke an API key. Effective within a second."""
    session = open_session()
    revoked = session.ask_as("admin", revoke_api_key, id=key_id)
    print_json(revoked) if session.as_json else out.print(f"key {revoked.id} ({revoked.name}) is revoked", markup=False)


@identity.command("add")
def _add(
    name: Annotated[str, typer.Argument(help="Name of the identity.")],
    role: Annotated[list[Role], typer.Option(help="Role, repeatable.")],
    key_out: KeyOut = None,
) -> None:
    """Add an identity. The key pair is generated here; only the public key is registered."""
    session = open_session()
    identities.disable.request_of(name=name)  # a bad name makes no key
    path = _new_key_path(session, key_out, name)
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
        out.print(f"{name} is proposed, with the key {path}, fingerprint {auth.fingerprint(public)}", markup=False)
        say(f"next: another admin asks {name} for the fingerprint and confirms it: tailorbird identity confirm {name} --as ADMIN")
    else:
        out.print(f"{name} can act with {path}, fingerprint {auth.fingerprint(public)}", markup=False)


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
        raise Conflict(
            f"{name} is recorded with another public key", "ask its owner; the admin who added it used another", code="key_differs"
        )
    if not (yes or public_key):
        typer.confirm(f"Did {name} tell you this fingerprint, and are these roles theirs?", abort=True, err=True)
    signature = session.sign("identity", digest_of(addition(session.tenant, name, found.roles, found.public_key)), "admin")
    confirmed = session.ask_as("admin", identities.confirm, name=name, signature=signature)
    print_json(confirmed) if session.as_json else out.print(f"{name} is confirmed by {session.name('admin')}", markup=False)


@identity.command("list")
def _list_people() -> None:
    """List the tenant's identities."""
    session = open_session()
    known = session.ask(list_identities).identities
    if session.as_json:
        print_json(known)
        return
    rows = [(p.name, ", ".join(sorted(p.roles)), _state(p), ", ".join(p.admitted_by), auth.fingerprint(p.public_key)) for p in known]
    print_table(("identity", "roles", "state", "admitted by", "fingerprint"), rows)


def _state(person: Identity) -> str:
    return "disabled" if person.disabled_at else "waits for a second admin" if person.pending else ""


@identity.command("disable")
def _disable(name: Annotated[str, typer.Argument(help="Name of the identity.")]) -> None:
    """Disable an identity. Its earlier approvals remain valid."""
    session = open_session()
    identities.disable.request_of(name=name)  # a bad name is told before a key is asked for
    change = IdentityChange(tenant=session.tenant, identity=name, change="disable")
    signature = session.sign("identity", digest_of(change), "admin")
    disabled = session.ask_as("admin", identities.disable, name=name, signature=signature)
    print_json(disabled) if session.as_json else out.print(f"{disabled.name} is disabled", markup=False)


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
    _change_key(session, path, fresh, leaked=leaked)
    path.replace(path.with_name(path.name + ".old"))
    fresh.replace(path)
    if session.as_json:
        print_json({"tenant": session.tenant, "name": session.name(), "key": str(path)})
    else:
        mark = auth.fingerprint(auth.public_key(auth.load_key(path)))
        out.print(f"{session.name()} acts with a new key, {path}, fingerprint {mark}", markup=False)


def _change_key(session: CommandSession, path: Path, fresh: Path, *, leaked: bool) -> None:
    """Both keys sign the change. One that was cut off after the record took it is found done: the new key is the identity's already."""
    old, new = auth.load_key(path), auth.load_key(fresh)
    rotation = Rotation(tenant=session.tenant, identity=session.name(), public_key=auth.public_key(new), leaked=leaked)
    if _acts(session, fresh):
        return
    digest, now = digest_of(rotation), SystemClock().now()
    present, proof = (auth.sign(key, session.name(), "rotate", digest, now) for key in (old, new))
    session.ask(identities.rotate, rotation=rotation, present=present, proof=proof)


def _acts(session: CommandSession, key: Path) -> bool:
    """True when ``key`` is already the acting identity's."""
    try:
        replace(session, key=key).ask(show_session)
    except (Forbidden, Unauthenticated):
        return False
    return True


def _new_key_path(session: CommandSession, given: Path | None, name: str) -> Path:
    if given is not None:
        return given
    return Path(f"{name}.key") if session.server else session.settings.keys / session.tenant / f"{name}.key"


apps = {"key": key, "identity": identity}
