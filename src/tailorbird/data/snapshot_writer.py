"""Snapshot writer: rows into artifacts, and the manifest that names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data.curation import CurationOutcome, CurationTally, NearDuplicateGroups, groups_of, report_of
from tailorbird.data.label_errors import label_suspects
from tailorbird.data.pipeline import PipelineResult, SnapshotRequest, salt_of_splits
from tailorbird.data.placed_rows import PlacedRows, RowCounts, split_counts
from tailorbird.data.provenance import croissant, salt_of, seal_documents
from tailorbird.data.provenance.merkle_seal import Seal
from tailorbird.data.readers import SourcePlace
from tailorbird.domain.curation import CurationReport, RowFinding
from tailorbird.domain.dataset import Document, Quarantined, Row, ShiftedPart, SnapshotManifest, SourceShape, Split, SplitCounts
from tailorbird.domain.objective import Task
from tailorbird.domain.value import Digest, Value


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


def frozen_rows(rows: PlacedRows) -> LazyRows:
    """The rows in their order, created on access."""
    placed, order = rows.placed, rows.order

    def row_at(place: int) -> Row:
        item, group = placed[order[place]]
        row = item.row
        told = {"provenance": row.provenance, "shifted": row.shifted}
        return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, **told)

    return LazyRows(range(len(placed)), row_at)


@dataclass(frozen=True)
class ManifestContent:
    """Content of a manifest. ``rows`` and ``members`` (of the seal) wait until they are stored; ``read_back`` are
    the rows, made on access; ``lengths`` are those of the rows' texts,
    ascending; ``terms`` are places of rows, on whatever terms; ``tally`` holds everything that was counted, and all that was set
    aside."""

    rows: Callable[[], Digest]
    read_back: LazyRows
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
    sources: dict[str, SourceShape]
    removed: int
    duplicates: int
    files: dict[str, Digest]
    documents: tuple[Document, ...] = ()
    shift: ShiftedPart | None = None


class WrittenSnapshot(NamedTuple):
    """A snapshot, its report; the leaves of its seal, the bytes of each row as stored, and the (split, group) of each by its id."""

    manifest: SnapshotManifest
    report: CurationReport
    leaves_MB: NDArray[np.uint8]
    lengths_M: NDArray[np.int32]
    assigned: dict[Digest, tuple[str, str]]


def write_snapshot(request: SnapshotRequest, gathered: PipelineResult) -> WrittenSnapshot:
    """Stores rows, quarantine, seal, findings and report, and returns the manifest that names them. Lengths are in characters."""
    objective, counts = request.objective, gathered.rows.counts
    pieces, lengths_M, seal, assigned = gathered.prepared.stored(gathered.rows)
    rows = request.artifacts.put(*pieces)
    del pieces  # as much as all rows, which are stored by now
    label_counts = counts.labels(objective.task)
    findings = sorted(gathered.tally.findings, key=lambda finding: (finding.file, finding.line, finding.code))
    content = ManifestContent(
        rows=lambda: rows,
        read_back=frozen_rows(gathered.rows),
        members=lambda: request.artifacts.put(seal.stored),
        seal=seal,
        splits=counts.splits(),
        label_counts=label_counts,
        label_sets=_label_sets(counts) if objective.task.labels == "many" else (),
        lengths=gathered.rows.lengths,
        groups=groups_of(gathered.items, gathered.alike, labelled=bool(label_counts)),
        terms=gathered.sources.places,
        expires=_expires(gathered),
        protected=gathered.protected,
        tally=gathered.tally,
        schemes=gathered.schemes,
        findings=findings_jsonl(findings),
        quarantined=gathered.quarantined,
        sources=gathered.sources.shapes,
        removed=len(gathered.sources.removed),
        duplicates=gathered.duplicates,
        files=gathered.sources.files,
        documents=gathered.sources.documents,
        shift=_shifted_part(gathered, objective.task),
    )
    return WrittenSnapshot(*manifest_of(request, content), seal.leaves_MB, lengths_M, assigned)


def manifest_of(request: SnapshotRequest, content: ManifestContent) -> tuple[SnapshotManifest, CurationReport]:
    """Stores everything but rows and seal, and when these are stored returns the manifest and the report."""
    objective, artifacts, lengths = request.objective, request.artifacts, content.lengths
    counts, root = split_counts(content.splits), content.seal.root
    outcome = CurationOutcome(content.groups, content.protected, content.label_counts, lengths, counts.test)
    report = report_of(objective.curation, content.schemes, content.tally, outcome)
    suspects = label_suspects(content.read_back, objective.task)  # while rows and seal are on their way to the disk
    found = {"suspects": suspects.ranked, "suspects_skipped": suspects.skipped}
    report = report.model_copy(update=found | {"findings": artifacts.put(content.findings)})
    rows = content.rows()
    manifest = SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=rows,
        quarantine=artifacts.put(jsonl(content.quarantined)),
        read=sum(source.rows for source in content.sources.values()),
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
        sources=content.sources,
        answers="last" if objective.task.learn == "last" else "all" if objective.task.learn_tool_calls else "words",
    )
    return manifest, report


def _shifted_part(gathered: PipelineResult, task: Task) -> ShiftedPart | None:
    if gathered.shift is None:
        return None
    counts = gathered.rows.counts
    return ShiftedPart(
        rule=gathered.shift, counts=split_counts(counts.splits(shifted=True)), label_counts=counts.labels(task, shifted=True)
    )


def _expires(gathered: PipelineResult) -> date | None:
    rows = {place.retain_until for place in gathered.sources.places}
    if len(rows) > 1:  # some of these may be of rows that were left out
        rows = {item.row.place.retain_until for item, _ in gathered.rows.placed}
    documents = {document.provenance.retain_until for document in gathered.sources.documents if document.provenance}
    return min((rows | documents) - {None}, default=None)  # type: ignore[type-var]


def jsonl(values: Iterable[Value]) -> bytes:
    """The values, one a line."""
    return b"".join(canonical_json(value) + b"\n" for value in values)


def findings_jsonl(findings: Iterable[RowFinding]) -> bytes:
    """As ``jsonl``: each is spelled out, since what is found in a million rows is much."""
    texts = cache(json.JSONEncoder(ensure_ascii=False).encode)
    actions = cache(lambda action: "" if action == "reported" else f'"action":{texts(action)},')
    counts = cache(lambda count: "" if count == 1 else f'"count":{count},')
    lines = (
        f'{{{actions(found.action)}"code":{texts(found.code)},{counts(found.count)}"file":{texts(found.file)},"line":{found.line}}}\n'
        for found in findings
    )
    return "".join(lines).encode()


def _label_sets(counts: RowCounts) -> tuple[str, ...]:
    return tuple(sorted({target for target, split, _ in counts.rows if split is Split.TRAIN}))
