"""Snapshot writer: rows into artifacts, and the manifest that names them."""

from __future__ import annotations

import io
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data.curation import CurationOutcome, CurationTally, NearDuplicateGroups, groups_of, report_of
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.pipeline import PipelineResult, SnapshotRequest, salt_of_splits
from tailorbird.data.provenance import croissant, member, salt_of, seal_documents
from tailorbird.data.provenance.merkle_seal import MEMBER, Seal, sealed
from tailorbird.data.readers import SourcePlace
from tailorbird.data.splits.split_assignment import SplitGroup, labels_of
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Document, Quarantined, Row, ShiftedPart, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ArtifactStore


class LazyRows(Sequence[Row]):
    """Rows at ``places``, created by ``row_at`` on access: a million at once would fill the memory."""

    def __init__(self, places: range, row_at: Callable[[int], Row]) -> None:
        self._places = places
        self._row_at = row_at

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> LazyRows: ...
    def __getitem__(self, place: int | slice) -> Row | LazyRows:
        if isinstance(place, slice):
            return LazyRows(self._places[place], self._row_at)
        return self._row_at(self._places[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyRows) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(len(self._places))


#: For texts, whole numbers and lists of them, this is the canonical form (RFC 8785); a million rows ask for it.
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_text = json.JSONEncoder(ensure_ascii=False).encode

Placed = Sequence[tuple[Item, SplitGroup]]


def frozen_rows(placed: Placed) -> LazyRows:
    """Rows of ``placed`` in its order, created on access."""

    def row_at(place: int) -> Row:
        item, group = placed[place]
        row = item.row
        told = {"provenance": row.provenance, "shifted": row.shifted}
        return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, **told)

    return LazyRows(range(len(placed)), row_at)


@dataclass(frozen=True)
class ManifestContent:
    """Content of a manifest. ``rows`` and ``members`` (of the seal) wait until they are stored; ``lengths`` are those of the rows' texts,
    ascending; ``terms`` are places of rows, on whatever terms; ``tally`` holds everything that was counted, and all that was set
    aside."""

    rows: Callable[[], Digest]
    members: Callable[[], Digest]
    seal: Seal
    splits: Mapping[Split, int]
    label_counts: dict[str, SplitCounts]
    label_sets: tuple[str, ...]
    lengths: NDArray[np.int32]
    groups: NearDuplicateGroups
    terms: Iterable[SourcePlace]
    expires: date | None
    protected: Mapping[str, int]
    tally: CurationTally
    schemes: Mapping[str, str]
    findings: bytes
    quarantined: tuple[Quarantined, ...]
    read: int
    removed: int
    duplicates: int
    files: dict[str, Digest]
    documents: tuple[Document, ...] = ()
    shift: ShiftedPart | None = None


class WrittenSnapshot(NamedTuple):
    """A snapshot, its report; the leaves of its seal, and the bytes of each row as stored."""

    manifest: SnapshotManifest
    report: CurationReport
    leaves_MB: NDArray[np.uint8]
    lengths_M: NDArray[np.int32]


def write_snapshot(request: SnapshotRequest, gathered: PipelineResult) -> WrittenSnapshot:
    """Stores rows, quarantine, seal, findings and report, and returns the manifest that names them. Lengths are in characters."""
    objective, placed = request.objective, gathered.placed
    rows, seal, lengths_M = _stored_rows(placed, salt_of(request.amendments.secret, objective.name), request.artifacts)
    label_counts = _label_counts(placed, objective.task)
    findings = sorted(gathered.tally.findings, key=lambda finding: (finding.file, finding.line, finding.code))
    content = ManifestContent(
        rows=lambda: rows,
        members=lambda: request.artifacts.put(seal.stored),
        seal=seal,
        splits=Counter(group.split for _, group in placed),
        label_counts=label_counts,
        label_sets=_label_sets(placed) if objective.task.labels == "many" else (),
        lengths=np.sort(np.fromiter((len(item.row.text) for item, _ in placed), np.int32, len(placed))),
        groups=groups_of(gathered.items, gathered.alike, labelled=bool(label_counts)),
        terms={row.place for row in gathered.sources.rows},
        expires=_expires(placed, gathered.sources.documents),
        protected=gathered.protected,
        tally=gathered.tally,
        schemes=gathered.schemes,
        findings=jsonl(findings),
        quarantined=gathered.quarantined,
        read=sum(gathered.sources.read.values()),
        removed=len(gathered.sources.removed),
        duplicates=gathered.duplicates,
        files=gathered.sources.files,
        documents=gathered.sources.documents,
        shift=_shifted_part(gathered, objective.task),
    )
    return WrittenSnapshot(*manifest_of(request, content), seal.leaves_MB, lengths_M)


def manifest_of(request: SnapshotRequest, content: ManifestContent) -> tuple[SnapshotManifest, CurationReport]:
    """Stores everything but rows and seal, and when these are stored returns the manifest and the report."""
    objective, artifacts, lengths = request.objective, request.artifacts, content.lengths
    counts, root = counts_of(content.splits), content.seal.root
    outcome = CurationOutcome(content.groups, content.protected, content.label_counts, lengths, counts.test)
    report = report_of(objective.curation, content.schemes, content.tally, outcome)
    report = report.model_copy(update={"findings": artifacts.put(content.findings)})
    rows = content.rows()
    manifest = SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=rows,
        quarantine=artifacts.put(jsonl(content.quarantined)),
        read=content.read,
        duplicates=content.duplicates,
        quarantined=len(content.quarantined),
        counts=counts,
        label_counts=content.label_counts,
        label_sets=content.label_sets,
        near_duplicate_groups=content.groups.count,
        files=content.files,
        salt=salt_of_splits(objective),
        text_length_p95=int(lengths[(95 * len(lengths) + 99) // 100 - 1]),
        text_length_max=int(lengths[-1]),
        documents=artifacts.put(jsonl(content.documents)) if content.documents else None,
        curation=artifacts.put(canonical_json(report)),
        root=root,
        seal=content.members(),
        metadata=artifacts.put(croissant(objective, rows, counts.train + counts.dev + counts.test, content.terms)),
        removed=content.removed,
        expires=content.expires,
        sealed_documents=seal_documents(content.documents, salt_of(request.amendments.secret, objective.name), artifacts),
        shift=content.shift,
        outside=objective.task.out_of_scope.label if objective.task.out_of_scope else "",
        answers="last" if objective.task.learn == "last" else "all" if objective.task.learn_tool_calls else "words",
    )
    return manifest, report


def _shifted_part(gathered: PipelineResult, task: Task) -> ShiftedPart | None:
    if gathered.shift is None:
        return None
    shifted = [(item, group) for item, group in gathered.placed if item.row.shifted]
    counts = counts_of(Counter(group.split for _, group in shifted))
    return ShiftedPart(rule=gathered.shift, counts=counts, label_counts=_label_counts(shifted, task))


def _stored_rows(placed: Placed, salt: bytes, artifacts: ArtifactStore) -> tuple[Digest, Seal, NDArray[np.int32]]:
    """The digest of the rows as stored, their seal, and the bytes of each row."""
    lines, members, lengths = io.BytesIO(), bytearray(), array("i")
    for item, group in placed:
        line = line_of(item, group)
        members += member(item.id, line, salt)
        lengths.append(len(line))
        lines.write(line)
        lines.write(b"\n")
    seal = sealed(np.frombuffer(members, dtype=np.uint8).reshape(-1, MEMBER))
    return artifacts.put(lines.getvalue()), seal, np.frombuffer(lengths, dtype=np.int32)


def line_of(item: Item, group: SplitGroup) -> bytes:
    """The canonical JSON of the row, without making it; keys in their order, since a million rows ask for it."""
    row, (before, after) = item.row, _place_of(item.row.place)
    subject = "null" if row.subject is None else _text(row.subject)
    transforms = _canonical(row.transforms) if row.transforms else "[]"
    provenance = f'{before}"line":{row.line},{after}"subject":{subject},"transforms":{transforms}'
    shifted = '"shifted":true,' if row.shifted else ""
    named = f'"{item.id}"' if group.id == item.id else _text(group.id)  # most rows are like no other
    head = f'{{"group":{named},"id":"{item.id}","provenance":{{{provenance}}},{shifted}"split":"{group.split.value}"'
    return f'{head},"target":{_text(row.target)},"text":{_text(row.text)}}}'.encode()


@lru_cache(maxsize=1024)
def _place_of(place: SourcePlace) -> tuple[str, str]:
    """What stands before the line, and behind it, in the canonical JSON of the provenance of the rows of a place."""
    before = {"collected": place.collected, "consent": place.consent, "file": place.file, "license": place.license}
    if place.file_digest:
        before["file_digest"] = place.file_digest
    after = {"origin": place.origin, "retain_until": place.retain_until.isoformat() if place.retain_until else None}
    return f"{_canonical(before)[1:-1]},", f"{_canonical(after)[1:-1]},"


def _expires(placed: Placed, documents: Iterable[Document]) -> date | None:
    rows = {item.row.place.retain_until for item, _ in placed}
    return min((rows | {document.provenance.retain_until for document in documents if document.provenance}) - {None}, default=None)  # type: ignore[type-var]


def jsonl(values: Iterable[Value]) -> bytes:
    """The values, one a line."""
    return b"".join(canonical_json(value) + b"\n" for value in values)


def _label_counts(placed: Placed, task: Task) -> dict[str, SplitCounts]:
    if task.kind is not TaskKind.CLASSIFY:
        return {}
    by_label: dict[str, Counter[Split]] = {}
    for (target, split), rows in Counter((item.row.target, group.split) for item, group in placed).items():
        for label in labels_of(target, task):
            by_label.setdefault(label, Counter())[split] += rows
    return {label: counts_of(by_label[label]) for label in sorted(by_label)}


def _label_sets(placed: Placed) -> tuple[str, ...]:
    return tuple(sorted({item.row.target for item, group in placed if group.split is Split.TRAIN}))


def counts_of(counter: Mapping[Split, int]) -> SplitCounts:
    """Rows per split."""
    return SplitCounts(**{split.value: counter.get(split, 0) for split in Split})
