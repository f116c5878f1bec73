"""``tailorbird promote`` and ``tailorbird rollback``: into production, and back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.session import CommandSession, another_release, open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.releases.release_queries import list_aliases

promote = command()
rollback = command()


@promote.command()
def _promote(
    digest: Annotated[str, typer.Argument(help="Digest of a staged release, or its prefix.", metavar="DIGEST")],
) -> None:
    """Promote a staged release to production, under the alias TENANT/OBJECTIVE."""
    session = open_session()
    moved = session.ask_as("operator", promotion.promote, digest=digest)
    if session.as_json:
        print_json(moved.alias)
        return
    assert moved.entered is not None
    out.print(f"{moved.alias.path} is now release {short(moved.entered.digest)}", markup=False)
    if not moved.left:
        say(f"next: a key for a program: tailorbird key create my-app --as {session.colleague('admin')}; then: tailorbird serve")
    else:
        say(f"release {short(moved.left.digest)} stays loaded for a while; back to it: tailorbird rollback {moved.alias.path}")


@rollback.command()
def _rollback(
    alias: Annotated[str, typer.Argument(help="TENANT/OBJECTIVE, or OBJECTIVE.", metavar="ALIAS")],
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, where no release stands to go back to.")] = False,
) -> None:
    """Roll an alias back to its previous release; without one, withdraw it and retire its release for good.

    Before it retires one, it asks on a terminal; without a terminal it goes on.
    """
    session = open_session()
    if not yes and not session.as_json and sys.stdin.isatty() and sys.stderr.isatty():
        _ask_where_final(session, alias)
    moved = session.ask_as("operator", promotion.roll_back, alias=session.alias_name(alias), reason=reason)
    if session.as_json:
        print_json(moved.alias)
        return
    if moved.entered:
        out.print(f"{moved.alias.path} is release {short(moved.entered.digest)} again", markup=False)
    else:
        out.print(f"{moved.alias.path} is withdrawn: no release stood before it", markup=False)
        if moved.left:
            say(f"release {short(moved.left.digest)} is retired, which is final")
            say(another_release("OBJECTIVE"))


def _ask_where_final(session: CommandSession, alias: str) -> None:
    """Asks whether a name is to be withdrawn that no release stood under before. Raises Abort."""
    name = session.alias_name(alias)
    found = next((one for one in session.ask_as("operator", list_aliases).aliases if one.name == name), None)
    if found is None or len(found.targets) != 1 or found.previous or found.mirror:
        return
    release = short(found.targets[0].release)
    say(f"no release stood under {found.path} before: it answers nobody then, and release {release} is retired for good")
    typer.confirm("withdraw it?", abort=True, err=True)


apps = {"promote": promote, "rollback": rollback}
