"""``tailorbird promote`` and ``tailorbird rollback``: into production, and back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.session import CommandSession, another_release, open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Conflict
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
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Where no release stands to go back to: withdraw the name, and do not ask.")
    ] = False,
    release: Annotated[
        str, typer.Option(help="Digest of the release to take back, or its prefix: do nothing where another one answers.", metavar="DIGEST")
    ] = "",
) -> None:
    """Roll an alias back to its previous release; without one, withdraw it and retire its release for good.

    Before it withdraws one, it asks on a terminal; elsewhere it refuses without --withdraw.
    """
    session, seen = open_session(), None
    asks = not withdraw and not session.as_json and sys.stdin.isatty() and sys.stderr.isatty()
    if asks or release:
        seen = _look_at(session, alias, release)
        if asks and seen:
            withdraw = _withdrawal_asked(seen)
    name, version = session.alias_name(alias), seen.version if seen else None
    moved = session.ask_as("operator", promotion.roll_back, alias=name, reason=reason, version=version, withdraw=withdraw)
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


def _look_at(session: CommandSession, alias: str, release: str) -> Alias | None:
    """The alias as it stands, None where there is none. Raises Conflict where a rollback would not take back the ``release`` named."""
    name = session.alias_name(alias)
    found = next((one for one in session.ask_as("operator", list_aliases).aliases if one.name == name), None)
    taken = found.asked[-1] if found and found.asked else ""
    if found and not taken.removeprefix("sha256:").startswith(release.removeprefix("sha256:")):
        raise Conflict(
            f"{found.path} does not answer by {release}, but by {short(taken) if taken else 'nothing'}",
            "look at what answers now: somebody else may have rolled it back",
            code="alias_moved",
        )
    return found


def _withdrawal_asked(found: Alias) -> bool:
    """Asks whether a name is to be withdrawn that no release stood under before; False of any other. Raises Abort."""
    if len(found.targets) != 1 or found.previous or found.mirror:
        return False
    release = short(found.targets[0].release)
    say(f"no release stood under {found.path} before: it answers nobody then, and release {release} is retired for good")
    typer.confirm("withdraw it?", abort=True, err=True)
    return True


apps = {"promote": promote, "rollback": rollback}
