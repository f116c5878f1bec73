"""What a new snapshot must heed beside the files: erasures, decisions, the end of retention."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from tailorbird import data
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.erasure import Certificate, Erasure
from tailorbird.domain.objective import Objective
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_decisions, anchored_erasures, anchored_records, anchored_secret
from tailorbird.usecases.dependencies import Dependencies

#: The name of the secret behind pseudonyms and salts.
PROVENANCE = "provenance"


def amendments_of(deps: Dependencies, objective: Objective) -> data.Amendments:
    """What the next snapshot of ``objective`` must heed."""
    with deps.ledger.work(objective.tenant) as work:
        return data.Amendments(
            secret=anchored_secret(work, PROVENANCE),
            erased=frozenset(erasure.subject for erasure in anchored_erasures(work)),
            decisions={decision.row: decision for decision in anchored_decisions(work, objective.name)},
            today=deps.clock.now().date(),
        )


def heeded_facts(work: UnitOfWork, objective: Objective, today: date) -> dict[str, list[str]]:
    """What makes another run of the same files and the same objective: erasures that touched its snapshots, decisions about its rows,
    retention that has ended. Empty where there is nothing of that, so that most runs are named by files and objective alone."""
    facts = {
        "erased": sorted(erasure.subject for erasure in _erasures_of(work, objective.name)),
        "decided": [f"{found.row} {found.action.value} {found.label}" for found in anchored_decisions(work, objective.name)],
        "retention": sorted({day.isoformat() for day in _ended(work, objective, today)}),
    }
    return {name: told for name, told in facts.items() if told}


def manifests_of(work: UnitOfWork, objective: str | None = None) -> dict[str, SnapshotManifest]:
    """Snapshots by digest, oldest first; only those of ``objective``, where given."""
    found = {digest: work.records.get(SnapshotManifest, digest) for digest in anchored_records(work, SnapshotManifest)}
    return {digest: manifest for digest, manifest in found.items() if objective in (None, manifest.objective)}


def certificates_of(work: UnitOfWork, erasure: Erasure) -> Iterator[Certificate]:
    """The certificates of an erasure, newest first: there are more than one where more was found, or could be destroyed, later."""
    digest = erasure.certificate
    while digest is not None:
        certificate = work.records.get(Certificate, digest)
        yield certificate
        digest = certificate.earlier


def _erasures_of(work: UnitOfWork, objective: str) -> list[Erasure]:
    touched = []
    for erasure in anchored_erasures(work):
        rewritten = (snapshot for certificate in certificates_of(work, erasure) for snapshot in certificate.snapshots)
        if any(snapshot.objective == objective for snapshot in rewritten):
            touched.append(erasure)
    return touched


def _ended(work: UnitOfWork, objective: Objective, today: date) -> list[date]:
    """Days on which retention ended, as far as the objective and its snapshots say."""
    stated = [source.source.retain_until for source in objective.data] + [source.source.retain_until for source in objective.documents]
    stated += [manifest.expires for manifest in manifests_of(work, objective.name).values()]
    return [day for day in stated if day is not None and day < today]
