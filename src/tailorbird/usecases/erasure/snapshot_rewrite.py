"""Snapshot without a subject's rows and documents, with proofs of membership before and absence after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tailorbird import data
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.membership_proofs import Proof
from tailorbird.domain.dataset import Provenance, Quarantined, Row, SnapshotManifest
from tailorbird.domain.erasure import RewrittenDocuments, RewrittenSnapshot, RowProof
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.erasure.lineage import SubjectData
from tailorbird.usecases.snapshots.snapshot_lookup import objective_of


class SnapshotWithout(NamedTuple):
    """The new snapshot, what the certificate says of it, and rows that are others now: a document that answered them went."""

    manifest: SnapshotManifest
    told: RewrittenSnapshot
    changed: tuple[Row, ...]


def rewrite(work: UnitOfWork, artifacts: ArtifactStore, old: Digest, held: SubjectData, secret: bytes) -> SnapshotWithout:
    """Makes the snapshot ``old`` without what is ``held``. Raises DataInvalid when a split would be left without rows."""
    before = work.records.get(SnapshotManifest, old)
    objective = objective_of(work, old, before.objective)
    ranks = objective is not None and objective.task.kind is TaskKind.RANK
    gone = {row.id for row in held.rows}
    documents = {document.id: _erased(document.provenance) for document in held.documents if document.provenance}

    def change(row: Row) -> Row | Quarantined:
        if row.id in gone:
            return _erased(row.provenance)
        return _answered_by_others(row, documents) if ranks and documents else row

    made = data.rewrite_snapshot(before, artifacts, change, secret, documents)
    after = made.manifest
    proofs = data.prove_rows(artifacts, secret, before, after, [row.id for row in held.rows])
    told = RewrittenSnapshot(
        objective=before.objective,
        old=old,
        old_root=before.root,
        old_size=before.size,
        new=digest_of(after),
        new_root=after.root,
        new_size=after.size,
        rows=_stated(proofs),
        documents=_of_documents(artifacts, secret, before, after, held) if documents else None,
    )
    return SnapshotWithout(after, told, tuple(row for _, row in made.changed))


def _erased(place: Provenance) -> Quarantined:
    return Quarantined(file=place.file, line=place.line, code="erased", reason="its subject was erased")


def _answered_by_others(row: Row, gone: Mapping[str, Quarantined]) -> Row | Quarantined:
    left, place = data.without_documents(row.target, gone), row.provenance
    if left == row.target:
        return row
    if not left:
        return data.quarantine_unanswerable(place.file, place.line)
    changed = place.model_copy(update={"transforms": (*place.transforms, "answer_gone")})
    return row.model_copy(update={"id": data.row_id(row.text, left), "target": left, "provenance": changed})


def _of_documents(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, held: SubjectData
) -> RewrittenDocuments:
    was, now = before.sealed_documents, after.sealed_documents
    return RewrittenDocuments(
        count=len(held.documents),
        old_root=was.root if was else "",
        old_size=was.size if was else 0,
        new_root=now.root if now else "",
        new_size=now.size if now else 0,
        proofs=_stated(data.prove_documents(artifacts, secret, before, after, held.documents)),
    )


def _stated(proofs: Sequence[tuple[str, Proof, Proof]]) -> tuple[RowProof, ...]:
    return tuple(RowProof(key=key, was=was.model_dump_json(), is_gone=gone.model_dump_json()) for key, was, gone in proofs)
