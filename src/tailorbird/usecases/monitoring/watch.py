"""One look at everything a tenant has in production: are messages, answers and the service still what they were?"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from tailorbird import data
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.deployment import Alias, Traffic
from tailorbird.domain.evidence import Evidence, ItemResult
from tailorbird.domain.feedback import Signal
from tailorbird.domain.objective import Objective
from tailorbird.domain.value import Digest, Value
from tailorbird.monitoring.alerts import alerts
from tailorbird.monitoring.production_check import Reference, WatchInputs, check_release, reference_of
from tailorbird.monitoring.service import Expectation
from tailorbird.system.files import private_folder
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.releases.release_queries import live_now
from tailorbird.usecases.releases.rollouts import send_alerts
from tailorbird.usecases.snapshots import standing

#: How far back a look goes, the requests it compares at most, and the readings that tell what was told before.
WINDOW, MOST_REQUESTS, REMEMBERED = timedelta(hours=24), 2_000, 1_000
#: How far back users' feedback is held against live KPIs: people answer seldom.
_LIVE_WINDOW = timedelta(days=7)
#: Within which a refusal to load a release is one that lasts.
_LATELY = timedelta(minutes=5)


class ProductionCheck(Value):
    """What one look read, and what of it was told. ``undelivered`` counts notifiers that could not be reached."""

    signals: tuple[Signal, ...]
    told: tuple[Signal, ...]
    undelivered: int = 0


@usecase("traffic.watch", "POST", "/api/watch", Action.WATCH)
def watch_production(deps: Dependencies, actor: Actor) -> ProductionCheck:
    """Compare live messages, answers and service with what they were, and tell what is news.

    For every release in production of the actor's tenant. Raises Forbidden.
    """
    now, signals = deps.clock.now(), list[Signal]()
    with deps.ledger.work(actor.tenant, write=False) as work:
        traffic, aliases = work.requests.traffic(now - WINDOW, now), work.aliases.all()
    for alias in aliases:
        of_alias = {seen.release: seen for seen in traffic if seen.alias == alias.path}
        for target in alias.targets:
            signals += _check(deps, alias, target.release, of_alias, now)
    with deps.ledger.work(actor.tenant) as work:
        told = alerts(signals, work.signals.latest(REMEMBERED))
        work.signals.add(signals)
        for signal in told:
            facts: Facts = {"name": signal.name, "severity": signal.severity.value, "value": round(signal.value, 6), "n": signal.n}
            record(work, "signal.raised", actor.name, signal.release, now, facts)
    return ProductionCheck(signals=tuple(signals), told=told, undelivered=send_alerts(deps, told))


def _check(deps: Dependencies, alias: Alias, digest: Digest, traffic: dict[Digest | None, Traffic], now: datetime) -> tuple[Signal, ...]:
    """Signals of a release that answers ``alias``; ``traffic`` is that of the alias, by release."""
    with deps.ledger.work(alias.tenant, write=False) as work:
        release = work.releases.get(digest)
        objective = work.records.get(Objective, release.content.objective)
        manifest = standing(work, work.records.get(SnapshotManifest, release.content.snapshot))
        evidence = work.records.get(Evidence, release.dossier.test_evidence)
        rows = work.requests.latest(MOST_REQUESTS, release=digest)
        events = [entry.event for entry in work.events.latest(subject=digest)]
        marks = work.feedback.marks(digest, now - WINDOW)
        live = live_now(work, alias, release, max(alias.moved_at, now - _LIVE_WINDOW))
    limits, metrics = objective.limits, evidence.metrics
    latency, cost, refused = (metrics.get(name) for name in ("latency_p95_ms", "cost_per_1k_requests", "known_refused"))
    expected = Expectation(
        latency_limit_ms=limits.latency_p95_ms.max if limits.latency_p95_ms else None,
        latency_measured_ms=latency.value if latency else None,
        cost_limit=limits.cost_per_1k_requests.max if limits.cost_per_1k_requests else None,
        cost_measured=cost.value if cost else None,
        currency=objective.budget.currency,
        known_refused=refused.value if refused else None,
    )
    return check_release(
        WatchInputs(
            tenant=alias.tenant,
            objective=objective.name,
            release=digest,
            at=now,
            reference=_reference(deps, digest, manifest, evidence),
            requests=tuple(row for row in rows if row.at >= now - WINDOW and row.outcome == "ok"),
            traffic=traffic.get(digest),
            stood_in=sum(seen.stood_in for seen in traffic.values()) if release.content.hosted is not None else None,
            # A gateway that goes on needing a release tries twice a minute.
            load_refusals=tuple(
                str(event.data["code"]) for event in events if event.kind == "release.load_refused" and event.at >= now - _LATELY
            ),
            expected=expected,
            marks=marks,
            live=live,
            accuracy_target=next((kpi.target for kpi in objective.kpis if kpi.metric == "accuracy"), None),
            seed=objective.seed,
        )
    )


def _reference(deps: Dependencies, release: Digest, manifest: SnapshotManifest, evidence: Evidence) -> Reference:
    """Sketches of the snapshot's rows that a label fits, and the classes that the release answered to the sealed test; a file until
    somebody is erased."""
    place = deps.reference(release)
    try:
        return Reference.model_validate_json(place.read_bytes())
    except (OSError, ValueError):
        pass
    rows = [row for split in Split for row in data.load_items(manifest, deps.artifacts, split) if manifest.is_known(row)]
    lines = deps.artifacts.get(evidence.items).splitlines()
    answered = [ItemResult.model_validate_json(line).prediction for line in lines] if manifest.labels else []
    refused = evidence.scope.refused if evidence.scope and answered else {}
    made = reference_of(rows, answered, refused=refused)
    with suppress(OSError):
        private_folder(place.parent)
        partial = place.with_suffix(".partial")
        partial.write_bytes(canonical_json(made))
        partial.replace(place)
    return made
