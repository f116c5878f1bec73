"""Snapshot writer: rows into artifacts, and the manifest that names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from typing import NamedTuple, overload

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data.curation import CurationOutcome, groups_of, report_of
from tailorbird.data.label_errors import label_suspects
from tailorbird.data.pipeline import PipelineResult, SnapshotRequest, salt_of_splits
from tailorbird.data.placed_rows import PlacedRows, RowCounts, line_of, split_counts
from tailorbird.data.provenance import croissant, head, salt_of, seal_documents, stored
from tailorbird.data.provenance.merkle_seal import MemberHashes
from tailorbird.domain.curation import CurationReport, RowFinding
from tailorbird.domain.dataset import Row, ShiftedPart, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.objective import Task
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


def frozen_rows(rows: PlacedRows) -> LazyRows:
    """The rows in their order, created on access."""
    placed, order = rows.placed, rows.order

    def row_at(place: int) -> Row:
        item, group = placed[order[place]]
        row = item.row
        told = {"provenance": row.provenance, "shifted": row.shifted}
        return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, **told)

    return LazyRows(range(len(placed)), row_at)


class WrittenSnapshot(NamedTuple):
    """A snapshot, its report, and the (split, group) of each row by its id."""

    manifest: SnapshotManifest
    report: CurationReport
    assigned: dict[Digest, tuple[str, str]]


def write_snapshot(request: SnapshotRequest, gathered: PipelineResult) -> WrittenSnapshot:
    """Stores rows, quarantine, seal, findings and report, and returns the manifest that names them. Lengths are in characters."""
    objective, artifacts, placed = request.objective, request.artifacts, gathered.rows
    counts, lengths, salt = split_counts(placed.counts.splits()), placed.lengths, salt_of(request.amendments.secret, request.objective.name)
    rows, seal = _stored(placed, salt, artifacts)
    report = _report(request, gathered, counts)
    documents = gathered.sources.documents
    manifest = SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=rows,
        quarantine=artifacts.put(_jsonl(gathered.quarantined)),
        read=sum(gathered.sources.read.values()),
        duplicates=gathered.duplicates,
        quarantined=len(gathered.quarantined),
        counts=counts,
        label_counts=placed.counts.labels(objective.task),
        label_sets=_label_sets(placed.counts) if objective.task.labels == "many" else (),
        near_duplicate_groups=report.group_count,
        files=gathered.sources.files,
        salt=salt_of_splits(objective),
        text_length_p95=int(lengths[(95 * len(lengths) + 99) // 100 - 1]),
        text_length_max=int(lengths[-1]),
        documents=artifacts.put(_jsonl(documents)) if documents else None,
        curation=artifacts.put(canonical_json(report)),
        root=head(seal).root,
        seal=artifacts.put(seal),
        metadata=artifacts.put(croissant(objective, rows, len(placed.placed), gathered.sources.places)),
        removed=len(gathered.sources.removed),
        expires=_expires(gathered),
        sealed_documents=seal_documents(documents, salt, artifacts),
        shift=_shifted_part(gathered, objective.task),
        outside=objective.task.out_of_scope.label if objective.task.out_of_scope else "",
        sources=gathered.sources.shapes,
        answers="last" if objective.task.learn == "last" else "all" if objective.task.learn_tool_calls else "words",
    )
    return WrittenSnapshot(manifest, report, {item.id: (group.split.value, group.id) for item, group in placed.placed})


def _stored(rows: PlacedRows, salt: bytes, artifacts: ArtifactStore) -> tuple[Digest, bytes]:
    """The rows as an artifact, one a line, in the order of their ids; and their seal."""
    lines = [line_of(item, group) for item, group in rows.placed]
    member = MemberHashes(salt).member
    seal = stored(member(item.id, line) for (item, _), line in zip(rows.placed, lines, strict=True))
    return artifacts.put(b"\n".join([*map(lines.__getitem__, rows.order), b""])), seal


def _report(request: SnapshotRequest, gathered: PipelineResult, counts: SplitCounts) -> CurationReport:
    """The report with suspects and stored findings."""
    task, label_counts = request.objective.task, gathered.rows.counts.labels(request.objective.task)
    groups = groups_of(gathered.items, gathered.alike, labelled=bool(label_counts))
    outcome = CurationOutcome(groups, gathered.protected, label_counts, gathered.rows.lengths, counts.test)
    suspects = label_suspects(frozen_rows(gathered.rows), task)
    findings = sorted(gathered.tally.findings, key=lambda finding: (finding.file, finding.line, finding.code))
    found = {"suspects": suspects.ranked, "suspects_skipped": suspects.skipped}
    found |= {"findings": request.artifacts.put(_findings_jsonl(findings))}
    return report_of(request.objective.curation, gathered.schemes, gathered.tally, outcome).model_copy(update=found)


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


def _jsonl(values: Iterable[Value]) -> bytes:
    """The values, one a line."""
    return b"".join(canonical_json(value) + b"\n" for value in values)


def _findings_jsonl(findings: Iterable[RowFinding]) -> bytes:
    """As ``_jsonl``: each is spelled out, since what is found in a million rows is much."""
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
