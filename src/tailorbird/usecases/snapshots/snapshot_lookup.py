"""Which snapshot is meant, and what stands for it now."""

from __future__ import annotations

from contextlib import suppress

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import NotFound
from tailorbird.domain.objective import Objective
from tailorbird.domain.run import StepState
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_erasures, anchored_run, anchored_steps
from tailorbird.usecases.snapshots.amendments import certificates_of, manifests_of
from tailorbird.usecases.steps import transitions


class Snapshot(Value):
    """A snapshot by its digest."""

    digest: Digest
    manifest: SnapshotManifest


def find_snapshot(work: UnitOfWork, name: str) -> Snapshot:
    """The snapshot whose digest is, or begins with, ``name``; else the newest of the objective ``name``; else that of the run
    ``name``; else that of the release ``name``.

    Raises NotFound.
    """
    known = manifests_of(work)
    plain = name.removeprefix("sha256:")
    begun = [digest for digest in known if digest.removeprefix("sha256:").startswith(plain)] if plain else []
    if len(begun) == 1:
        return Snapshot(digest=begun[0], manifest=known[begun[0]])
    named = [digest for digest, manifest in known.items() if manifest.objective == name]
    if named:
        return Snapshot(digest=named[-1], manifest=known[named[-1]])
    return _of_run_or_release(work, name, known)


def present_of(work: UnitOfWork, artifacts: ArtifactStore, digest: Digest) -> SnapshotManifest:
    """The snapshot; where its rows were destroyed for somebody's sake, the one that was made from it without theirs. Raises NotFound."""
    found = work.records.get(SnapshotManifest, digest)
    if artifacts.exists(found.rows):
        return found
    certificates = (certificate for erasure in anchored_erasures(work) for certificate in certificates_of(work, erasure))
    news = {snapshot.old: snapshot.new for certificate in certificates for snapshot in certificate.snapshots}
    while digest in news and not artifacts.exists(found.rows):
        digest = news[digest]
        found = work.records.get(SnapshotManifest, digest)
    return found


def _of_run_or_release(work: UnitOfWork, name: str, known: dict[Digest, SnapshotManifest]) -> Snapshot:
    try:
        steps = anchored_run(work, name)[1]
    except NotFound:
        steps = ()
    for step in steps:
        if step.name == transitions.SNAPSHOT and step.state is StepState.DONE and step.result in known:
            return Snapshot(digest=step.result, manifest=known[step.result])
    with suppress(NotFound):
        learned_from = work.releases.get(name).content.snapshot
        return Snapshot(digest=learned_from, manifest=known[learned_from])
    by_name = "an objective is given by its `name`, not by its file; " if name.endswith((".yaml", ".yml")) else ""
    raise NotFound(
        f"no snapshot, release, objective or run {name[:80]} in {work.tenant}, or more than one",
        f"{by_name}list them with: tailorbird data list; make one with: tailorbird data curate OBJECTIVE",
        code="snapshot_missing",
    )


def standing(work: UnitOfWork, manifest: SnapshotManifest) -> SnapshotManifest:
    """The snapshot that stands for ``manifest`` now: itself, or what was made from it when a person was erased, and so on."""
    children = {found.parent: found for found in manifests_of(work, manifest.objective).values() if found.parent}
    while (child := children.get(digest_of(manifest))) is not None:
        manifest = child
    return manifest


def objective_of(work: UnitOfWork, snapshot: Digest, name: str) -> Objective | None:
    """The objective of the newest run over ``snapshot``, or else of the newest run of that name."""
    runs = [run for run in work.runs.all() if run.objective_name == name]
    for run, steps in zip(runs, anchored_steps(work, *runs), strict=True):
        if any(step.result == snapshot for step in steps):
            return work.records.get(Objective, run.objective)
    return work.records.get(Objective, runs[0].objective) if runs else None
