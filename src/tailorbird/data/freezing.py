"""Rows into artifacts, and the manifest that names them.

In: everything that building found. Out: a manifest; two JSONL artifacts in canonical form. Must not know: how rows were found or split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.data.provenance import croissant, head, member, salt_of, stored
from tailorbird.data.reading import SourceRows
from tailorbird.data.splitting.labels import labels_of
from tailorbird.domain.dataset import Quarantined, Row, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.objective import Objective, Task
from tailorbird.foundations.canonical import canonical_json
from tailorbird.ports.artifacts import ArtifactStore


@dataclass(frozen=True)
class Gathered:
    """What building found. ``rows`` are sorted by id, ``quarantined`` by file and line."""

    sources: SourceRows
    rows: tuple[Row, ...]
    duplicates: int
    quarantined: tuple[Quarantined, ...]
    near_duplicate_groups: int
    salt: str


def freeze(objective: Objective, gathered: Gathered, artifacts: ArtifactStore, secret: bytes) -> SnapshotManifest:
    """Stores rows, quarantine and seal, and returns the manifest that names them. Lengths are in characters."""
    rows, salt = gathered.rows, salt_of(secret, objective.name)
    lines = [canonical_json(row) for row in rows]
    seal = stored(member(row.id, line, salt) for row, line in zip(rows, lines, strict=True))
    lengths = sorted(len(row.text) for row in rows)
    stored_rows = artifacts.put(_jsonl(lines))
    places = {row.place for row in gathered.sources.rows}
    return SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=stored_rows,
        quarantine=artifacts.put(_jsonl([canonical_json(entry) for entry in gathered.quarantined])),
        read=sum(gathered.sources.read.values()),
        duplicates=gathered.duplicates,
        quarantined=len(gathered.quarantined),
        counts=_counts(Counter(row.split for row in rows)),
        label_counts=_label_counts(rows, objective.task),
        label_sets=_label_sets(rows) if objective.task.labels == "many" else (),
        near_duplicate_groups=gathered.near_duplicate_groups,
        files=gathered.sources.files,
        salt=gathered.salt,
        text_length_p95=lengths[(95 * len(lengths) + 99) // 100 - 1],
        text_length_max=lengths[-1],
        documents=artifacts.put(_jsonl([canonical_json(document) for document in gathered.sources.documents]))
        if gathered.sources.documents
        else None,
        root=head(seal).root,
        seal=artifacts.put(seal),
        metadata=artifacts.put(croissant(objective, stored_rows, len(rows), places)),
        removed=len(gathered.sources.removed),
        expires=min((row.provenance.retain_until for row in rows if row.provenance.retain_until), default=None),
    )


def _jsonl(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _label_counts(rows: Sequence[Row], task: Task) -> dict[str, SplitCounts]:
    by_label: dict[str, Counter[Split]] = {}
    for row in rows:
        for label in labels_of(row.target, task):
            by_label.setdefault(label, Counter())[row.split] += 1
    return {label: _counts(by_label[label]) for label in sorted(by_label)}


def _label_sets(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(sorted({row.target for row in rows if row.split is Split.TRAIN}))


def _counts(counter: Counter[Split]) -> SplitCounts:
    return SplitCounts(train=counter[Split.TRAIN], dev=counter[Split.DEV], test=counter[Split.TEST])
