"""``tailorbird release``: what may go before users, and who said so."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.access import Action
from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, out, print_json, print_table, say
from tailorbird.foundations.canonical import short
from tailorbird.lifecycle import promote as moves
from tailorbird.lifecycle.journal import permit
from tailorbird.reporting import release_summary

release = typer.Typer(no_args_is_help=True)
DigestArgument = Annotated[str, typer.Argument(help="Digest of the release, or how it begins.", metavar="DIGEST")]


@release.callback()
def _release() -> None:
    """List, show, approve, reject and stage releases."""


@release.command("list")
def _list(workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """List the tenant's releases, newest first."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.SHOW_RELEASE)
    with session.parts.ledger.work(session.tenant, write=False) as work:
        known = work.releases.all()
    if as_json:
        print_json(known)
        return
    rows = [(short(r.digest), r.content.objective_name, r.content.rung.value, r.state.value, r.content.author) for r in known]
    print_table(("release", "objective", "rung", "state", "author"), rows)


@release.command("show")
def _show(
    digest: DigestArgument,
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    as_json: AsJson = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Show one release: its digests, its state, who decided what. With --card, its model card."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.SHOW_RELEASE, digest)
    found = moves.find_release(session.parts, session.tenant, digest)
    if card:
        typer.echo(session.parts.artifacts.get(found.content.card).decode())
    elif as_json:
        print_json(found)
    else:
        typer.echo(release_summary(found))


@release.command("approve")
def _approve(
    digest: DigestArgument,
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")] = "",
) -> None:
    """Approve a release. You sign its digest with your own key; you cannot approve what you made."""
    session = open_session(workspace, who, key)
    found = moves.decide(session.parts, session.actor("approver"), digest, "approve", reason)
    out.print(f"release {short(found.digest)} is {found.state.value}", markup=False)
    say(f"next: tailorbird release stage {short(found.digest)} --as operator")


@release.command("reject")
def _reject(
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
) -> None:
    """Reject a release, for good."""
    session = open_session(workspace, who, key)
    found = moves.decide(session.parts, session.actor("approver"), digest, "reject", reason)
    out.print(f"release {short(found.digest)} is {found.state.value}", markup=False)


@release.command("stage")
def _stage(digest: DigestArgument, workspace: Workspace = None, who: As = None, key: Key = None) -> None:
    """Move an approved release to staging."""
    session = open_session(workspace, who, key)
    found = moves.stage(session.parts, session.actor("operator"), digest)
    out.print(f"release {short(found.digest)} is {found.state.value}", markup=False)
    say(f"next: tailorbird promote {short(found.digest)} --as operator")


apps = {"release": release}
