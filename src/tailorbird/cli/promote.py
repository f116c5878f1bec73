"""``tailorbird promote`` and ``tailorbird rollback``: into production, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.session import open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.usecases.releases import promotion

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
    if moved.left:
        say(f"release {short(moved.left.digest)} stays loaded for a while; back to it: tailorbird rollback {moved.alias.path}")


@rollback.command()
def _rollback(
    alias: Annotated[str, typer.Argument(help="TENANT/OBJECTIVE, or OBJECTIVE.", metavar="ALIAS")],
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
) -> None:
    """Roll an alias back to its previous release; without one, withdraw it."""
    session = open_session()
    moved = session.ask_as("operator", promotion.roll_back, alias=session.alias_name(alias), reason=reason)
    if session.as_json:
        print_json(moved.alias)
        return
    if moved.entered:
        out.print(f"{moved.alias.path} is release {short(moved.entered.digest)} again", markup=False)
    else:
        out.print(f"{moved.alias.path} is withdrawn: no release stood before it", markup=False)
        if moved.left:
            say(f"release {short(moved.left.digest)} is retired, which is final: a changed objective or new data lead to another")


apps = {"promote": promote, "rollback": rollback}
