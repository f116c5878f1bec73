"""Obligations of an erasure: bytes destroyed at once, and tasks for people with their due dates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import date, timedelta

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.erasure import Obligation, ObligationKind
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_records
from tailorbird.usecases.erasure.lineage import ENDED, Found, Lineage, SubjectData, alive

#: What shows a person's very words must go within days; what only learned from them within the month that Article 12(3) GDPR gives.
SHOWN_DAYS, LEARNED_DAYS = 3, 30

#: Lines named in one duty at most.
_LINES = 50


def duties_of(found: Found, traced: Lineage, today: date) -> tuple[Obligation, ...]:
    """Obligations for people, soonest first."""
    duties = [*_releases(traced, today), *_sources(found, today), _backups(today)]
    return tuple(sorted(duties, key=lambda duty: (duty.due, duty.kind.value, duty.what)))


def purged(work: UnitOfWork, artifacts: ArtifactStore, found: Found, news: Collection[SnapshotManifest], traced: Lineage) -> set[Digest]:
    """Artifacts that hold the person's words: rows and documents of snapshots that are others in the ``news`` made from them, files that
    came with a run, results of items whose answers are texts, indexes that no release uses."""
    stay = {part for manifest in news for part in (manifest.rows, manifest.documents)}
    olds = [work.records.get(SnapshotManifest, snapshot) for snapshot in found]
    doomed = {part for manifest in olds for part in (manifest.rows, manifest.documents) if part} - stay
    doomed |= {digest for manifest, held in zip(olds, found.values(), strict=True) for digest in _files(manifest, held, artifacts)}
    for run in traced.runs:
        if work.records.get(Objective, run.objective).task.kind is not TaskKind.CLASSIFY:
            doomed |= traced.evidence
    return doomed | unused_indexes(work, artifacts, traced.indexes)


def _files(manifest: SnapshotManifest, held: SubjectData, artifacts: ArtifactStore) -> Iterator[Digest]:
    """Files that came with a run, and that something ``held`` was read from."""
    for file, digest in {place.file: place.file_digest for place in held.places}.items():
        stored = digest or manifest.files.get(file)
        if stored and artifacts.exists(stored):
            yield stored


def due_still(work: UnitOfWork, duties: Collection[Obligation]) -> tuple[Obligation, ...]:
    """Those of ``duties`` that nobody has done, as far as the record shows: a release that has ended asks for nothing more."""
    names = {short(release.digest) for release in alive(work)}
    about_releases = (ObligationKind.RETIRE, ObligationKind.RETRAIN)
    return tuple(duty for duty in duties if duty.kind not in about_releases or duty.what in names)


def unused_indexes(work: UnitOfWork, artifacts: ArtifactStore, indexes: Collection[Digest]) -> set[Digest]:
    """Trees of ``indexes`` that no release needs any more, with their files."""
    used = {release.content.retrieval.index for release in alive(work) if release.content.retrieval}
    needed = {file for index in used if artifacts.exists(index) for file in artifacts.tree(index).values()}
    unused = {index for index in indexes if index not in used and artifacts.exists(index)}
    return unused | {file for index in unused for file in artifacts.tree(index).values()} - needed


def unused_prompts(work: UnitOfWork, candidates: Collection[Digest]) -> tuple[Digest, ...]:
    """Members of ``candidates`` whose record is there and that no release needs any more."""
    used = {release.content.candidate for release in alive(work)}
    return tuple(sorted((set(candidates) & set(anchored_records(work, Candidate))) - used))


def _releases(traced: Lineage, today: date) -> Iterator[Obligation]:
    for release in traced.releases:
        if release.state in ENDED or release.content.candidate not in traced.learned:
            continue
        shown = release.content.candidate in traced.shown
        what, alias = short(release.digest), f"{release.content.tenant}/{release.content.objective_name}"
        if shown:
            yield Obligation(
                kind=ObligationKind.RETIRE,
                what=what,
                due=today + timedelta(days=SHOWN_DAYS),
                why=f"its prompt or its index shows the person's words; tailorbird rollback {alias}, adapt, and erase again: then they go",
            )
        else:
            yield Obligation(
                kind=ObligationKind.RETRAIN,
                what=what,
                due=today + timedelta(days=LEARNED_DAYS),
                why=f"it learned from the person's rows ({alias}); adapt again, release that, and let this one go",
            )
    for release in traced.borrowing:
        if release.state not in ENDED and release.content.retrieval:
            alias, ranker = f"{release.content.tenant}/{release.content.objective_name}", short(release.content.retrieval.release or "")
            why = f"its passages are found by the encoder of release {ranker}, which learned from the person's rows ({alias}); "
            why += "adapt the objective of that encoder again, release it, and then adapt this one"
            due = today + timedelta(days=LEARNED_DAYS)
            yield Obligation(kind=ObligationKind.RETRAIN, what=short(release.digest), due=due, why=why)


def _sources(found: Found, today: date) -> Iterator[Obligation]:
    """Files that are not ours: their owner must take the lines out. Lines are those of the file as it was read."""
    lines: dict[str, set[int]] = defaultdict(set)
    for held in found.values():
        for place in held.places:
            lines[place.file].add(place.line)
    for file, numbers in sorted(lines.items()):
        named = ", ".join(map(str, sorted(numbers)[:_LINES])) + (f" and {len(numbers) - _LINES} more" if len(numbers) > _LINES else "")
        why = f"the source still has what is the person's, on line {named}; tailorbird leaves them out from now on"
        yield Obligation(kind=ObligationKind.CLEAN_SOURCE, what=file, due=today + timedelta(days=LEARNED_DAYS), why=why)


def _backups(today: date) -> Obligation:
    why = "backups made before today hold the old snapshots: delete their folders, then tailorbird backup PLACE --prune deletes what only "
    why += "they named; a restored one must be followed by the same erasure"
    return Obligation(kind=ObligationKind.EXPIRE_BACKUPS, what="backups", due=today + timedelta(days=LEARNED_DAYS), why=why)
