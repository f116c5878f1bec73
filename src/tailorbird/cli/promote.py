"""``tailorbird promote`` and ``tailorbird rollback``: into production, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.session import open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import NotFound
from tailorbird.usecases.operations import releases as asking

promote = typer.Typer(add_completion=False)
rollback = typer.Typer(add_completion=False)


@promote.command()
def _promote(
    digest: Annotated[str, typer.Argument(help="Digest of a staged release, or how it begins.", metavar="DIGEST")],
) -> None:
    """Put a staged release before users, under the alias tenant/objective."""
    session = open_session()
    moved = session.ask(asking.PROMOTE, asking.OneRelease(digest=digest), "operator")
    if session.as_json:
        print_json(moved.alias)
        return
    assert moved.entered is not None
    out.print(f"{moved.alias.path} is now release {short(moved.entered.digest)}", markup=False)
    if moved.left:
        say(f"release {short(moved.left.digest)} stays loaded for a while; back to it: tailorbird rollback {moved.alias.path}")


@rollback.command()
def _rollback(
    alias: Annotated[str, typer.Argument(help="tenant/objective, or objective.", metavar="ALIAS")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")] = "",
) -> None:
    """Take the present release of an alias out of production; the one before it answers again."""
    session = open_session()
    tenant, _, name = alias.rpartition("/")
    if tenant and tenant != session.tenant:
        raise NotFound(f"no alias {alias} in tenant {session.tenant}", f"act in that tenant: --as {tenant}/NAME", code="alias_missing")
    moved = session.ask(asking.ROLL_BACK, asking.TakeBack(alias=name, reason=reason), "operator")
    if session.as_json:
        print_json(moved.alias)
        return
    if moved.entered:
        out.print(f"{moved.alias.path} is release {short(moved.entered.digest)} again", markup=False)
    else:
        out.print(f"{moved.alias.path} is withdrawn: no release stood before it", markup=False)


apps = {"promote": promote, "rollback": rollback}
