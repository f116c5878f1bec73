"""``tailorbird key`` and ``tailorbird identity``: who may come in."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from tailorbird.access import Action
from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, out, print_json, print_table, say
from tailorbird.domain.identity import Role
from tailorbird.lifecycle import people
from tailorbird.lifecycle.journal import permit

key = typer.Typer(no_args_is_help=True)
identity = typer.Typer(no_args_is_help=True)


@key.callback()
def _key() -> None:
    """Create, list and revoke the tenant's API keys."""


@identity.callback()
def _identity() -> None:
    """Add and list identities."""


@key.command("create")
def _create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    workspace: Workspace = None,
    who: As = None,
    key_file: Key = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires.", min=1)] = None,
) -> None:
    """Create an API key. Its secret is printed once, on stdout, and kept nowhere."""
    session = open_session(workspace, who, key_file)
    expires = session.parts.clock.now() + timedelta(days=days) if days else None
    made, secret = people.create_api_key(session.parts, session.actor("admin"), name, expires)
    say(f"key {made.id} ({name}) for tenant {made.tenant}; this is its secret, shown once:")
    typer.echo(secret)


@key.command("list")
def _list_keys(workspace: Workspace = None, who: As = None, key_file: Key = None, as_json: AsJson = False) -> None:
    """List the tenant's API keys."""
    session = open_session(workspace, who, key_file)
    known = people.list_api_keys(session.parts, session.actor("admin"))
    if as_json:
        print_json([k.model_copy(update={"secret_sha256": ""}) for k in known])
        return
    now = session.parts.clock.now()
    rows = [(k.id, k.name, "valid" if k.is_valid(now) else "not valid", f"{k.created_at:%Y-%m-%d}") for k in known]
    print_table(("key", "name", "state", "created"), rows)


@key.command("revoke")
def _revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")], workspace: Workspace = None, who: As = None, key_file: Key = None
) -> None:
    """Revoke an API key; gateways refuse it within a second."""
    session = open_session(workspace, who, key_file)
    revoked = people.revoke_api_key(session.parts, session.actor("admin"), key_id)
    out.print(f"key {revoked.id} ({revoked.name}) is revoked", markup=False)


@identity.command("add")
def _add(
    name: Annotated[str, typer.Argument(help="Name of the identity.")],
    role: Annotated[list[Role], typer.Option(help="A role it holds; may be given several times.")],
    workspace: Workspace = None,
    who: As = None,
    key_file: Key = None,
) -> None:
    """Add an identity with a key of its own."""
    session = open_session(workspace, who, key_file)
    made = people.add_identity(session.parts, session.actor("admin"), name, role)
    out.print(f"{made.name} can act with {people.key_path(session.parts, made.tenant, made.name)}", markup=False)


@identity.command("list")
def _list_people(workspace: Workspace = None, who: As = None, key_file: Key = None, as_json: AsJson = False) -> None:
    """List the tenant's identities."""
    session = open_session(workspace, who, key_file)
    permit(session.parts, session.actor(), Action.SHOW_IDENTITY)
    with session.parts.ledger.work(session.tenant, write=False) as work:
        known = work.identities.all()
    if as_json:
        print_json(known)
        return
    print_table(("identity", "roles"), [(p.name, ", ".join(sorted(p.roles))) for p in known])


apps = {"key": key, "identity": identity}
