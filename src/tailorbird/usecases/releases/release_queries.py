"""Releases and public names: listed, and shown."""

from __future__ import annotations

from datetime import datetime

from tailorbird.auth import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import ApprovalRule, Release, ReleaseState
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.serving.rollout_guards import live_findings
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.label_review import standing_in
from tailorbird.usecases.registry import PageSize, ReleaseDigest, Skip, usecase
from tailorbird.usecases.releases.rules import approval_rule, is_supplement, missing_text, next_command, quorum_standing, read_release


class ReleaseList(Value):
    """Some of the tenant's releases, newest first, and how many there are."""

    releases: tuple[Release, ...]
    total: int


class CardText(Value):
    """A model card, in Markdown with YAML front matter."""

    markdown: str


class QuorumReport(Value):
    """Who must approve a release by ``rule``, whose approval ``counts``, and who may still decide. ``people`` more are needed, the
    ``roles`` among them if any is named; ``text`` says it in a clause. ``is_open``: an approval is taken now. ``review`` is what a label
    review still lacks, ``reviewed`` what one that has passed found; empty where nothing. ``next`` is the command that brings a staged
    release before users."""

    release: Digest
    rule: ApprovalRule
    is_reached: bool
    is_open: bool
    counts: tuple[str, ...]
    deciders: tuple[Identity, ...]
    people: int
    roles: tuple[Role, ...]
    text: str
    review: str
    reviewed: str
    next: str = ""


class AliasList(Value):
    """The tenant's public names, and where they point."""

    aliases: tuple[Alias, ...]


@usecase("release.list", "GET", "/api/releases", Action.SHOW_RELEASE)
def list_releases(deps: Dependencies, actor: Actor, limit: PageSize = 50, skip: Skip = 0) -> ReleaseList:
    """List releases, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return ReleaseList(releases=work.releases.latest(limit, skip), total=work.releases.count())


@usecase("release.show", "GET", "/api/releases/{digest}", Action.SHOW_RELEASE)
def show_release(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> Release:
    """Show a release.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return work.releases.get(digest)


@usecase("release.quorum", "GET", "/api/releases/{digest}/quorum", Action.SHOW_RELEASE)
def show_quorum(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> QuorumReport:
    """Show who must still approve it, and who may.

    The rule is that of its objective and of what it would replace. Raises NotFound, Corrupt (something signed does not verify).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        release, objective, people = read_release(work, digest)
        standing = quorum_standing(release, approval_rule(work, objective), people)
        judged = standing_in(work, release).result
        following = next_command(deps, work, release) if release.state is ReleaseState.STAGED else ""
    return QuorumReport(
        release=release.digest,
        rule=standing.rule,
        is_reached=standing.is_reached,
        is_open=release.state is ReleaseState.GATED or is_supplement(release, standing),
        counts=tuple(approval.identity for approval in standing.counted),
        deciders=standing.deciders,
        people=standing.people,
        roles=standing.roles,
        text=missing_text(standing),
        review=judged.reason if judged and judged.verdict is not Verdict.PASS else "",
        reviewed=judged.reason if judged and judged.verdict is Verdict.PASS else "",
        next=following,
    )


@usecase("release.card", "GET", "/api/releases/{digest}/card", Action.SHOW_RELEASE)
def show_card(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> CardText:
    """Read its model card.

    Raises NotFound.
    """
    found = show_release(deps, actor, digest)
    return CardText(markdown=deps.artifacts.get(found.dossier.card).decode())


@usecase("alias.list", "GET", "/api/aliases", Action.SHOW_RELEASE)
def list_aliases(deps: Dependencies, actor: Actor) -> AliasList:
    """List public names."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return AliasList(aliases=work.aliases.all())


class LiveReport(Value):
    """A release's live KPIs by all that users ever said of its answers under its public name; empty where its objective states none."""

    release: Digest
    alias: str
    kpis: tuple[LiveFinding, ...]


@usecase("release.live", "GET", "/api/releases/{digest}/live", Action.SHOW_RELEASE)
def live_report(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> LiveReport:
    """Its live KPIs: what users said of its answers, held against the objective's targets.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return _report(work, actor.tenant, digest)


def live_now(work: UnitOfWork, alias: Alias, release: Release, since: datetime) -> tuple[LiveFinding, ...]:
    """The live KPIs of a release that answers ``alias``: where what users said of its answers from ``since`` on proves a miss, that, or
    else what they said of all of them."""
    objective = work.records.get(Objective, release.content.objective)
    if not objective.live_kpis or alias.stage == "staging":
        return ()
    ever = _report(work, alias.tenant, release.digest).kpis
    votes = work.rollouts.votes(alias.path, release.digest, start=since)
    lately = live_findings(objective.live_kpis, votes, objective.business.risk.confidence)
    return tuple(new if new.standing == "missed" else old for old, new in zip(ever, lately, strict=True))


def _report(work: UnitOfWork, tenant: str, digest: str) -> LiveReport:
    release = work.releases.get(digest)
    objective = work.records.get(Objective, release.content.objective)
    alias = f"{tenant}/{release.content.objective_name}"
    votes = work.rollouts.votes(alias, release.digest) if objective.live_kpis else ()
    return LiveReport(
        release=release.digest, alias=alias, kpis=live_findings(objective.live_kpis, votes, objective.business.risk.confidence)
    )
