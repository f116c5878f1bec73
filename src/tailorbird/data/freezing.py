"""Rows into artifacts, and the manifest that names them.

In: everything that the steps found. Out: a manifest and a report; JSONL artifacts in canonical form. Must not know: how rows were found or
split.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import overload

from tailorbird.data.curating import Outcome, report_of
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.gathering import Gathered, SnapshotRequest
from tailorbird.data.provenance import croissant, head, member, salt_of, stored
from tailorbird.data.splitting.labels import labels_of
from tailorbird.data.splitting.placing import Group
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Row, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.objective import Task
from tailorbird.domain.value import Digest, Value
from tailorbird.foundations.canonical import canonical_json
from tailorbird.ports.artifacts import ArtifactStore

#: For texts, whole numbers and lists of them, this is the canonical form (RFC 8785); a million rows ask for it.
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode

Placed = Sequence[tuple[Item, Group]]


class FrozenRows(Sequence[Row]):
    """The rows of a snapshot, each made when it is asked for: a million of them at once would fill the memory."""

    def __init__(self, placed: Placed) -> None:
        self._placed = placed

    def __len__(self) -> int:
        return len(self._placed)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> FrozenRows: ...
    def __getitem__(self, place: int | slice) -> Row | FrozenRows:
        if isinstance(place, slice):
            return FrozenRows(self._placed[place])
        item, group = self._placed[place]
        row = item.row
        return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, provenance=row.provenance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenRows) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(len(self._placed))


def freeze(request: SnapshotRequest, gathered: Gathered) -> tuple[SnapshotManifest, CurationReport]:
    """Stores rows, quarantine, seal, findings and report, and returns the manifest that names them. Lengths are in characters."""
    objective, placed, artifacts = request.objective, gathered.placed, request.artifacts
    rows, seal = _stored_rows(placed, salt_of(request.amendments.secret, objective.name), artifacts)
    lengths = sorted(len(item.row.text) for item, _ in placed)
    places = {row.place for row in gathered.sources.rows}
    label_counts = _label_counts(placed, objective.task)
    counts = _counts(Counter(group.split for _, group in placed))
    outcome = Outcome(gathered.items, gathered.alike, gathered.protected, label_counts, lengths, counts.test)
    report = report_of(objective.curation, gathered.schemes, gathered.tally, outcome)
    findings = sorted(gathered.tally.findings, key=lambda finding: (finding.file, finding.line, finding.code))
    report = report.model_copy(update={"findings": artifacts.put(_jsonl(findings))})
    manifest = SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=rows,
        quarantine=artifacts.put(_jsonl(gathered.quarantined)),
        read=sum(gathered.sources.read.values()),
        duplicates=gathered.duplicates,
        quarantined=len(gathered.quarantined),
        counts=counts,
        label_counts=label_counts,
        label_sets=_label_sets(placed) if objective.task.labels == "many" else (),
        near_duplicate_groups=len(gathered.alike),
        files=gathered.sources.files,
        salt=gathered.salt,
        text_length_p95=lengths[(95 * len(lengths) + 99) // 100 - 1],
        text_length_max=lengths[-1],
        documents=artifacts.put(_jsonl(gathered.sources.documents)) if gathered.sources.documents else None,
        curation=artifacts.put(canonical_json(report)),
        root=head(seal).root,
        seal=artifacts.put(seal),
        metadata=artifacts.put(croissant(objective, rows, len(placed), places)),
        removed=len(gathered.sources.removed),
        expires=_expires(placed),
    )
    return manifest, report


def _stored_rows(placed: Placed, salt: bytes, artifacts: ArtifactStore) -> tuple[Digest, bytes]:
    """The digest of the rows as stored, and their seal."""
    lines, members = io.BytesIO(), list[bytes]()
    for item, group in placed:
        line = _line(item, group)
        members.append(member(item.id, line, salt))
        lines.write(line)
        lines.write(b"\n")
    return artifacts.put(lines.getvalue()), stored(members)


def _line(item: Item, group: Group) -> bytes:
    """The canonical JSON of the row, without making it."""
    row, place = item.row, item.row.place
    provenance = {
        "file": place.file,
        "file_digest": place.file_digest,
        "line": row.line,
        "origin": place.origin,
        "license": place.license,
        "collected": place.collected,
        "consent": place.consent,
        "subject": row.subject,
        "retain_until": place.retain_until.isoformat() if place.retain_until else None,
        "transforms": row.transforms,
    }
    fields = {"id": item.id, "text": row.text, "target": row.target, "group": group.id, "split": group.split.value}
    return _canonical({**fields, "provenance": provenance}).encode()


def _expires(placed: Placed) -> date | None:
    return min({item.row.place.retain_until for item, _ in placed} - {None}, default=None)  # type: ignore[type-var]


def _jsonl(values: Iterable[Value]) -> bytes:
    return b"".join(canonical_json(value) + b"\n" for value in values)


def _label_counts(placed: Placed, task: Task) -> dict[str, SplitCounts]:
    by_label: dict[str, Counter[Split]] = {}
    for item, group in placed:
        for label in labels_of(item.row.target, task):
            by_label.setdefault(label, Counter())[group.split] += 1
    return {label: _counts(by_label[label]) for label in sorted(by_label)}


def _label_sets(placed: Placed) -> tuple[str, ...]:
    return tuple(sorted({item.row.target for item, group in placed if group.split is Split.TRAIN}))


def _counts(counter: Counter[Split]) -> SplitCounts:
    return SplitCounts(train=counter[Split.TRAIN], dev=counter[Split.DEV], test=counter[Split.TEST])
