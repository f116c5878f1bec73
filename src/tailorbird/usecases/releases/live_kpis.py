"""A release's live KPIs: what users said of its answers, wherever it stands, held against what its objective asks."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from tailorbird.auth import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.serving import live_findings
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.parameters import ReleaseDigest
from tailorbird.usecases.registry import usecase


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


def count_live(deps: Dependencies) -> dict[tuple[str, str], int]:
    """How many live KPIs of releases that answer users stand where, over all tenants: by metric and standing."""
    counted: Counter[tuple[str, str]] = Counter()

    def count(tenant: str) -> None:
        with deps.ledger.work(tenant, write=False) as work:
            answering = {target.release for alias in work.aliases.all() for target in alias.targets}
            for release in answering:
                try:
                    counted.update((found.metric, found.standing) for found in _report(work, tenant, release).kpis)
                except TailorbirdError:
                    continue  # a release that cannot be read is told elsewhere

    for_each_tenant(deps, count)
    return dict(counted)


def _report(work: UnitOfWork, tenant: str, digest: str) -> LiveReport:
    release = work.releases.get(digest)
    objective = work.records.get(Objective, release.content.objective)
    alias = f"{tenant}/{release.content.objective_name}"
    votes = work.rollouts.votes(alias, release.digest) if objective.live_kpis else ()
    return LiveReport(
        release=release.digest, alias=alias, kpis=live_findings(objective.live_kpis, votes, objective.business.risk.confidence)
    )
