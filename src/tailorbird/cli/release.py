"""``tailorbird release``: what may go before users, and who said so."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird import wiring
from tailorbird.cli.groups import command_group
from tailorbird.cli.plain_text import tell
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.ports.engine import LoadRequest
from tailorbird.reporting import effect_text, release_summary
from tailorbird.sdk.decisions import APPROVER, decide
from tailorbird.usecases import admit
from tailorbird.usecases.releases import promotion, release_queries
from tailorbird.usecases.releases.load_verification import EffectReport, verify_effect
from tailorbird.usecases.releases.release_queries import QuorumReport, list_releases, show_card, show_quorum, show_release

release = command_group()
#: States in which nobody has to approve any more.
_ENDED = (ReleaseState.RETIRED, ReleaseState.REJECTED)
DigestArgument = Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="DIGEST")]


@release.callback()
def _release() -> None:
    """List, show, verify, approve, reject and stage releases."""


@release.command("list")
def _list(
    limit: Annotated[int, typer.Option(help="Number of newest releases.", min=1, max=1000)] = 50,
) -> None:
    """List the tenant's releases, newest first."""
    session = open_session()
    page = session.ask(list_releases, limit=limit)
    known = page.releases
    if session.as_json:
        print_json(known)
        return
    rows = [(short(r.digest), r.content.objective_name, r.content.rung.value, r.state.value, r.content.author) for r in known]
    print_table(("release", "objective", "rung", "state", "author"), rows)
    if page.total > len(known):
        say(f"{page.total - len(known)} older releases: --limit N")


@release.command("show")
def _show(
    digest: DigestArgument,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Show a release: digests, state, decisions; with --card, its model card."""
    session = open_session()
    if card:
        found_card = session.ask(show_card, digest=digest)
        print_json(found_card) if session.as_json else tell(found_card.markdown)
        return
    found = session.ask(show_release, digest=digest)
    if session.as_json:
        print_json(found)
        return
    tell(release_summary(found))
    if found.state not in _ENDED:
        _tell_lines(session.ask(show_quorum, digest=found.digest), found)


@release.command("verify")
def _verify(
    digest: DigestArgument,
    engine: Annotated[bool, typer.Option("--engine", help="Load it and compare what it changes in its base with its probes.")] = False,
    adapters_only: Annotated[
        bool, typer.Option("--adapters-only", help="No release without an adapter is served by the vLLM server, which holds none yet.")
    ] = False,
) -> None:
    """Verify a release: signature, approvals and files; with --engine, also that the engine applies it as it was measured."""
    session = open_session()
    actor = session.actor("operator")
    if not engine:
        shown = session.ask_as("operator", show_release, digest=digest)
        admit(session.deps, LoadRequest(tenant=actor.tenant, release=shown.digest, purpose="staging"))
        say("signature and files are as they were; --engine asks the engine, too")
        return
    found: list[EffectReport] = []
    failed: list[TailorbirdError] = []
    drivers = wiring.open_outside_drivers(session.settings, session.deps) or (None,)
    for driver in drivers:
        try:
            found.append(verify_effect(session.deps, actor, digest, driver, adapters_only=adapters_only))
        except TailorbirdError as error:  # the other replicas are asked all the same
            failed.append(error)
    if session.as_json and found:
        print_json(found if len(drivers) > 1 else found[0])
    elif not session.as_json:
        for one in found:
            out.print(effect_text(one.reading, one.proven, one.unprovable), markup=False)
    if failed:
        raise failed[0]


@release.command("live")
def _live(digest: DigestArgument) -> None:
    """Show a release's live KPIs against the objective's targets."""
    session = open_session()
    found = session.ask(release_queries.live_report, digest=digest)
    if session.as_json:
        print_json(found)
        return
    if not found.kpis:
        say("the objective of this release states no live KPI")
    for one in found.kpis:
        out.print(f"{one.standing}: {one.text}", markup=False)


@release.command("approve")
def _approve(
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
) -> None:
    """Approve a release, signed with your own key. Authors cannot approve their own releases."""
    session = open_session()
    found = decide(session, digest, "approve", reason)
    _told(found, session.as_json)
    if session.as_json:
        return
    needed = session.ask_as(APPROVER, show_quorum, digest=found.digest)
    if not needed.is_reached:
        say(f"not approved yet: {needed.text}")
    elif needed.review:
        say(f"next: tailorbird review answers {short(found.digest)}; label review: {needed.review}")
    elif found.state is ReleaseState.APPROVED:
        say(f"next: tailorbird release stage {short(found.digest)} --as {session.colleague('operator')}")


@release.command("reject")
def _reject(
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")],
) -> None:
    """Reject a release, permanently."""
    session = open_session()
    _told(decide(session, digest, "reject", reason), session.as_json)


@release.command("stage")
def _stage(digest: DigestArgument) -> None:
    """Stage an approved release."""
    session = open_session()
    found = session.ask_as("operator", promotion.stage, digest=digest)
    _told(found, session.as_json)
    if session.as_json:
        return
    following = session.ask_as("operator", show_quorum, digest=found.digest).next
    say(f"next: {following} --as {session.colleague('operator')}" if following.startswith("tailorbird ") else f"next: {following}")


def _tell_lines(needed: QuorumReport, found: Release) -> None:
    """What of the approvals does not count, what is missing, and what people still have to judge, or have found."""
    struck = [one.identity for one in found.approvals if one.decision == "approve" and one.identity not in needed.counts]
    lines = [("", f"the approval of {name} no longer counts") for name in struck]
    lines += [] if needed.is_reached else [("needed", needed.text)]
    lines += [("review", needed.review or needed.reviewed)] if needed.review or needed.reviewed else []
    for name, text in lines:
        tell(f"{name:<9} {text}")


def _told(found: Release, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    last = max(found.approvals, key=lambda approval: approval.signature.at, default=None)
    decided = f"; last decision: {last.decision} by {last.identity} as {last.role.value}" if last else ""
    out.print(f"release {short(found.digest)} is {found.state.value}{decided}", markup=False)


apps = {"release": release}
