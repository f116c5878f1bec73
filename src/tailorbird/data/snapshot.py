"""From an objective's files to a frozen snapshot, and back to rows.

In: an objective, its folder, where earlier rows went. Out: a manifest by digest; rows of one split. Must not know: models, metrics,
the ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tailorbird.data.duplicates.exact import Item, drop_duplicates
from tailorbird.data.duplicates.ties import Tie, components, subject_ties, text_ties
from tailorbird.data.freezing import Gathered, freeze
from tailorbird.data.provenance import Amendments, amend
from tailorbird.data.reading import read_sources, refuse_if_most
from tailorbird.data.splitting.classes import check_classes
from tailorbird.data.splitting.coverage import cover_labels
from tailorbird.data.splitting.labels import labels_of
from tailorbird.data.splitting.placing import SHARES, Group, place
from tailorbird.domain.dataset import Document, Quarantined, Row, SnapshotManifest, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Objective, Task
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore


@dataclass(frozen=True)
class SnapshotRequest:
    """What to freeze. ``known`` maps ids of rows in earlier snapshots of this objective to (split, group); ``progress`` hears each step.

    ``amendments`` are what happened to rows outside of their files.
    """

    objective: Objective
    folder: Path
    artifacts: ArtifactStore
    known: dict[Digest, tuple[str, str]]
    progress: Callable[[str], None]
    amendments: Amendments = field(default_factory=Amendments)


@dataclass(frozen=True)
class BuiltSnapshot:
    """A frozen snapshot. ``rows`` are sorted by id; ``assigned`` maps the id of every row to its (split, group), to be remembered."""

    manifest: SnapshotManifest
    rows: tuple[Row, ...]
    quarantined: tuple[Quarantined, ...]
    assigned: dict[Digest, tuple[str, str]]


def build_snapshot(request: SnapshotRequest) -> BuiltSnapshot:
    """Reads, cleans, groups, splits and freezes. The same files, objective and ``known`` give the same digests; appended rows never move
    earlier ones.

    Raises DataInvalid when a file cannot be used, when the labels cannot be learned from, or when a split would be empty.
    """
    gathered = _gather(request)
    assigned = {row.id: (row.split.value, row.group) for row in gathered.rows}
    return BuiltSnapshot(
        freeze(request.objective, gathered, request.artifacts, request.amendments.secret), gathered.rows, gathered.quarantined, assigned
    )


def load_rows(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split) -> tuple[Row, ...]:
    """The rows of one split, sorted by id: whoever wants test rows has to ask for them. Raises NotFound or Corrupt."""
    lines = artifacts.get(manifest.rows).splitlines()
    return tuple(Row.model_validate_json(line) for line in lines if json.loads(line)["split"] == split.value)


def load_documents(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Document, ...]:
    """The tenant's documents, sorted by id; none where the objective names none. Raises NotFound or Corrupt."""
    lines = artifacts.get(manifest.documents).splitlines() if manifest.documents else []
    return tuple(map(Document.model_validate_json, lines))


def load_quarantine(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Quarantined, ...]:
    """What was set aside, sorted by file and line. Raises NotFound or Corrupt."""
    return tuple(map(Quarantined.model_validate_json, artifacts.get(manifest.quarantine).splitlines()))


def _gather(request: SnapshotRequest) -> Gathered:
    objective = request.objective
    sources = amend(read_sources(objective, request.folder, request.amendments.secret), request.amendments)
    request.progress(f"read {sum(sources.read.values()):,} rows from {len(sources.files)} files; looking for duplicates")
    distinct = drop_duplicates(sources.rows, request.known)
    labels = _labels(distinct.items, objective.task)
    check_classes(labels, objective.task)
    texts, salt = text_ties(distinct.items), _salt(objective)
    drawn = _drawn(objective)
    placement = place(distinct.items, [*texts, *subject_ties(distinct.items)], salt, drawn)
    cover_labels(placement.groups, drawn, objective.task)
    kept = [item for group in placement.groups for item in group.items]
    check_classes(dict.fromkeys(labels, 0) | _labels(kept, objective.task), objective.task)
    gathered = Gathered(
        sources=sources,
        rows=tuple(sorted((_row(item, group) for group in placement.groups for item in group.items), key=lambda row: row.id)),
        duplicates=distinct.duplicates,
        quarantined=_sorted([*sources.removed, *sources.quarantined, *distinct.quarantined, *placement.quarantined]),
        near_duplicate_groups=_count_groups(len(distinct.items), texts),
        salt=salt,
    )
    refuse_if_most(sources.read, [*sources.quarantined, *distinct.quarantined, *placement.quarantined])
    _check_splits(gathered.rows)
    request.progress(f"kept {len(kept):,} rows, left out {distinct.duplicates:,} duplicates, quarantined {len(gathered.quarantined):,}")
    return gathered


def _labels(items: Sequence[Item], task: Task) -> Counter[str]:
    """How many distinct rows each label has; a row counts for each of its labels."""
    return Counter(label for item in items for label in labels_of(item.row.target, task))


def _salt(objective: Objective) -> str:
    """One salt for all snapshots of an objective, so that a row that was removed and comes back is drawn as before."""
    return hashlib.sha256(f"tailorbird/split/v1\n{objective.tenant}\n{objective.name}".encode()).hexdigest()


def _drawn(objective: Objective) -> tuple[Split, ...]:
    """The splits that rows are drawn into: a dev or test split that comes as a source of its own is not mixed with other rows."""
    given = {source.split for source in objective.data} - {Split.TRAIN.value}
    return tuple(split for split in SHARES if split.value not in given)


def _row(item: Item, group: Group) -> Row:
    row = item.row
    return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, provenance=row.provenance)


def _sorted(quarantined: Sequence[Quarantined]) -> tuple[Quarantined, ...]:
    return tuple(sorted(quarantined, key=lambda entry: (entry.file, entry.line, entry.code)))


def _count_groups(size: int, ties: Sequence[Tie]) -> int:
    return sum(len(part) > 1 for part in components(range(size), ties))


def _check_splits(rows: Sequence[Row]) -> None:
    present = {row.split for row in rows}
    for split in SHARES:
        if split not in present:
            hint = "bring more rows, or remove `split` from a source so that rows are drawn into all splits"
            raise DataInvalid(f"no rows for {split.value} are left", hint, code="split_empty")
