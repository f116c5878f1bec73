"""One look at everything a tenant has in production: are messages, answers, the service and the data still what they were?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tailorbird import data, monitoring
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.deployment import Alias, RequestRow, Traffic
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.evidence import Evidence, ItemResult
from tailorbird.domain.feedback import Marks, Signal
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.release import Release
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.run import Run
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.files import private_folder
from tailorbird.text.label_rules import split
from tailorbird.usecases.alert_delivery import send_alerts
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.releases.release_queries import live_now
from tailorbird.usecases.runs.step_runner import objective_of
from tailorbird.usecases.snapshots.snapshot_queries import standing

#: How far back a look goes, the requests it compares at most, and the readings that tell what was told before.
BOUNDS = monitoring.Thresholds()
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


@dataclass(frozen=True)
class _InProduction:
    """A release that answers an alias, with all that it is compared with."""

    alias: Alias
    release: Release
    objective: Objective
    run: Run
    manifest: SnapshotManifest
    evidence: Evidence
    requests: tuple[RequestRow, ...]
    traffic: Traffic | None
    stood_in: int | None
    load_refusals: tuple[str, ...]
    marks: tuple[Marks, ...]
    live: tuple[LiveFinding, ...]


@usecase("traffic.watch", "POST", "/api/watch", Action.WATCH)
def watch_production(deps: Dependencies, actor: Actor) -> ProductionCheck:
    """Compare live messages, answers, service and data with what they were, and tell what is news.

    For every release in production of the actor's tenant and the data of its objectives. Raises Forbidden.
    """
    permit(deps, actor, Action.WATCH)
    now = deps.clock.now()
    releases = _in_production(deps, actor.tenant, now)
    signals = [signal for one in releases for signal in _watch_release(deps, one, BOUNDS, now)]
    by_objective = {one.objective.name: one for one in releases}
    signals += [signal for one in by_objective.values() for signal in _watch_data(deps, one, BOUNDS, now)]
    with deps.ledger.work(actor.tenant) as work:
        told = monitoring.alerts(signals, work.signals.latest(REMEMBERED))
        work.signals.add(signals)
        for signal in told:
            facts: Facts = {"name": signal.name, "severity": signal.severity.value, "value": round(signal.value, 6), "n": signal.n}
            record(work, "signal.raised", actor.name, signal.release or signal.objective, now, facts)
    return ProductionCheck(signals=tuple(signals), told=told, undelivered=send_alerts(deps, told))


def _in_production(deps: Dependencies, tenant: str, now: datetime) -> list[_InProduction]:
    with deps.ledger.work(tenant, write=False) as work:
        traffic = {(seen.alias, seen.release): seen for seen in work.requests.traffic(now - WINDOW, now)}
        found = []
        for alias in work.aliases.all():
            stood_in = sum(seen.stood_in for (path, _), seen in traffic.items() if path == alias.path)
            for target in alias.targets:
                release = work.releases.get(target.release)
                rows = work.requests.latest(MOST_REQUESTS, release=release.digest)
                found.append(
                    _InProduction(
                        alias=alias,
                        release=release,
                        objective=work.records.get(Objective, release.content.objective),
                        run=work.runs.get(release.content.run),
                        manifest=standing(work, work.records.get(SnapshotManifest, release.content.snapshot)),
                        evidence=work.records.get(Evidence, release.dossier.test_evidence),
                        requests=tuple(row for row in rows if row.at >= now - WINDOW and row.outcome == "ok"),
                        traffic=traffic.get((alias.path, release.digest)),
                        stood_in=stood_in if release.content.hosted is not None else None,
                        load_refusals=_load_refusals(work, release.digest, now),
                        marks=work.feedback.marks(release.digest, now - WINDOW),
                        live=live_now(work, alias, release, max(alias.moved_at, now - _LIVE_WINDOW)),
                    )
                )
        return found


def _load_refusals(work: UnitOfWork, release: Digest, now: datetime) -> tuple[str, ...]:
    """Codes with which engines refused a release lately: a gateway that goes on needing it tries twice a minute."""
    entries = (entry.event for entry in work.events.latest(subject=release))
    return tuple(str(event.data["code"]) for event in entries if event.kind == "release.load_refused" and event.at >= now - _LATELY)


def _watch_release(deps: Dependencies, one: _InProduction, bounds: monitoring.Thresholds, now: datetime) -> tuple[Signal, ...]:
    return monitoring.check_release(
        monitoring.WatchInputs(
            tenant=one.objective.tenant,
            objective=one.objective.name,
            release=one.release.digest,
            at=now,
            reference=_reference(deps, one),
            requests=one.requests,
            traffic=one.traffic,
            stood_in=one.stood_in,
            load_refusals=one.load_refusals,
            expected=_expected(one),
            marks=one.marks,
            live=one.live,
            accuracy_target=next((kpi.target for kpi in one.objective.kpis if kpi.metric == "accuracy"), None),
            bounds=bounds,
            seed=one.objective.seed,
        )
    )


def _reference(deps: Dependencies, one: _InProduction) -> monitoring.Reference:
    """Sketches of the snapshot's rows that a label fits, and the classes that the release answered to the sealed test; a file until
    somebody is erased. One that still holds examples out of scope is made anew in its place."""
    place = deps.reference(one.release.digest)
    try:
        held = monitoring.Reference.model_validate_json(place.read_bytes())
    except (OSError, ValueError):
        held = None
    if held is not None and held.outside == one.manifest.outside:
        return held
    made = _make_reference(deps, one)
    try:
        private_folder(place.parent)
        partial = place.with_suffix(".partial")
        partial.write_bytes(canonical_json(made))
        partial.replace(place)
    except OSError:
        return made
    return made


def _make_reference(deps: Dependencies, one: _InProduction) -> monitoring.Reference:
    rows = [row for split in Split for row in data.load_items(one.manifest, deps.artifacts, split) if one.manifest.is_known(row)]
    lines = deps.artifacts.get(one.evidence.items).splitlines()
    answered = [ItemResult.model_validate_json(line).prediction for line in lines] if one.manifest.labels else []
    refused = one.evidence.scope.refused if one.evidence.scope and answered else {}
    return monitoring.reference_of(rows, answered, refused=refused, outside=one.manifest.outside)


def _expected(one: _InProduction) -> monitoring.Expectation:
    limits, metrics = one.objective.limits, one.evidence.metrics
    latency, cost, refused = (metrics.get(name) for name in ("latency_p95_ms", "cost_per_1k_requests", "known_refused"))
    return monitoring.Expectation(
        latency_limit_ms=limits.latency_p95_ms.max if limits.latency_p95_ms else None,
        latency_measured_ms=latency.value if latency else None,
        cost_limit=limits.cost_per_1k_requests.max if limits.cost_per_1k_requests else None,
        cost_measured=cost.value if cost else None,
        currency=one.objective.budget.currency,
        known_refused=refused.value if refused else None,
    )


def _watch_data(deps: Dependencies, one: _InProduction, bounds: monitoring.Thresholds, now: datetime) -> tuple[Signal, ...]:
    """Facts about the sources. Where one changed since the snapshot all are read again, to see rows, columns and what is set aside."""
    if one.run.inputs is not None:
        return ()  # the data came with the submission: there is no pipeline here to watch
    folder = Path(objective_of(deps, one.run).folder)
    sources = tuple(_facts(one.objective, folder))
    inputs = monitoring.DataWatchInputs(
        tenant=one.objective.tenant, objective=one.objective.name, at=now, sources=sources, snapshot=one.manifest, bounds=bounds
    )
    if not all(source.exists for source in sources):
        return monitoring.check_data(inputs)
    try:
        changes = _read_again(one, folder, sources)
    except (DataInvalid, Unavailable) as error:
        changes = {"failure": (error.error_code, error.message)}
    return monitoring.check_data(inputs.model_copy(update=changes))


def _facts(objective: Objective, folder: Path) -> Iterator[monitoring.SourceFacts]:
    """Every source that the objective names; whether one is at its address is known only when it is read."""
    rows, documents = (source.path for source in objective.data), (source.path for source in objective.documents)
    for path in dict.fromkeys((*rows, *documents, *(source.qrels for source in objective.data if source.qrels))):
        place = folder / path
        exists = "://" in path or place.exists()
        modified = datetime.fromtimestamp(place.stat().st_mtime, UTC) if exists and "://" not in path else None
        yield monitoring.SourceFacts(path=path, exists=exists, modified_at=modified)


def _read_again(one: _InProduction, folder: Path, sources: Sequence[monitoring.SourceFacts]) -> dict[str, object]:
    """What the sources are now; they are read where one changed since the snapshot. Raises DataInvalid, Unavailable."""
    objective, manifest = one.objective, one.manifest
    digests, shapes, more = data.fingerprint_sources(objective, folder), manifest.sources, dict[str, object]()
    if digests != manifest.files:
        found = data.read_sources(objective, folder)
        borne = (split(row.target) if objective.task.labels == "many" else (row.target,) for row in found.rows)
        labels = tuple(sorted({label for labels in borne for label in labels} - {manifest.outside}))
        shapes = found.shapes
        more = {"quarantined": len(found.quarantined), "labels": labels if objective.task.kind is TaskKind.CLASSIFY else None}
    known = (source.model_copy(update={"shape": shapes.get(source.path), "digest": digests[source.path]}) for source in sources)
    return more | {"sources": tuple(known)}
