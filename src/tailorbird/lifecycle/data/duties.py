"""What an erasure leaves to do: bytes to destroy at once, and what people must do by when.

In: the person's rows by snapshot, what they reached. Out: digests of artifacts; duties. Must not know: who asked, how bytes are destroyed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from tailorbird.domain.dataset import Row, SnapshotManifest
from tailorbird.domain.erasure import Duty, DutyKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import short
from tailorbird.lifecycle.data.reach import Traced
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork

#: What shows a person's very words must go within days; what only learned from them within the month that Article 12(3) GDPR gives.
SHOWN_DAYS, LEARNED_DAYS = 3, 30

#: Lines named in one duty at most.
_LINES = 50

_ENDED = (ReleaseState.RETIRED, ReleaseState.REJECTED)


def duties_of(rows: Mapping[Digest, Sequence[Row]], traced: Traced, today: date) -> tuple[Duty, ...]:
    """What people must do, soonest first."""
    found = [*_releases(traced, today), *_sources(rows, today), _backups(today)]
    return tuple(sorted(found, key=lambda duty: (duty.due, duty.kind.value, duty.what)))


def purged(work: UnitOfWork, artifacts: ArtifactStore, rows: Mapping[Digest, Sequence[Row]], traced: Traced) -> tuple[Digest, ...]:
    """Artifacts that hold the rows' text: snapshots' rows, files that came with a run, results of items whose answers are texts."""
    doomed = set[Digest]()
    for snapshot, some in rows.items():
        manifest = work.records.get(SnapshotManifest, snapshot)
        places = {row.provenance.file: row.provenance.file_digest for row in some}
        files = {digest or manifest.files.get(file) for file, digest in places.items()}
        doomed |= {manifest.rows, *(digest for digest in files if digest and artifacts.exists(digest))}
    for run in traced.runs:
        if work.records.get(Objective, run.objective).task.kind is not TaskKind.CLASSIFY:
            doomed |= traced.evidence
    return tuple(sorted(doomed))


def _releases(traced: Traced, today: date) -> Iterator[Duty]:
    for release in traced.releases:
        if release.state in _ENDED or release.content.candidate not in traced.learned:
            continue
        shown = release.content.candidate in traced.shown
        what, alias = short(release.digest), f"{release.content.tenant}/{release.content.objective_name}"
        if shown:
            yield Duty(
                kind=DutyKind.RETIRE,
                what=what,
                due=today + timedelta(days=SHOWN_DAYS),
                why=f"its prompt or its index shows the person's words; tailorbird rollback {alias}, then adapt again",
            )
        else:
            yield Duty(
                kind=DutyKind.RETRAIN,
                what=what,
                due=today + timedelta(days=LEARNED_DAYS),
                why=f"its weights learned from the person's rows ({alias}); adapt again, release that, and let this one go",
            )


def _sources(rows: Mapping[Digest, Sequence[Row]], today: date) -> Iterator[Duty]:
    """Files that are not ours: their owner must take the lines out. Lines are those of the file as it was read."""
    lines: dict[str, set[int]] = defaultdict(set)
    for some in rows.values():
        for row in some:
            lines[row.provenance.file].add(row.provenance.line)
    for file, numbers in sorted(lines.items()):
        named = ", ".join(map(str, sorted(numbers)[:_LINES])) + (f" and {len(numbers) - _LINES} more" if len(numbers) > _LINES else "")
        why = f"the source still has the person's rows, on line {named}; tailorbird leaves them out from now on"
        yield Duty(kind=DutyKind.CLEAN_SOURCE, what=file, due=today + timedelta(days=LEARNED_DAYS), why=why)


def _backups(today: date) -> Duty:
    why = "backups made before today hold the old snapshots; a restored one must be followed by the same erasure"
    return Duty(kind=DutyKind.EXPIRE_BACKUPS, what="backups", due=today + timedelta(days=LEARNED_DAYS), why=why)
