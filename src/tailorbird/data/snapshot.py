"""Snapshots: rows with splits, built from the files of an objective, written as artifacts with a manifest, and read back.

readers → curation (privacy) → provenance (amendments) → curation (quality) → splits (shifted part) → duplicates
→ curation (protected sets) → splits
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path

from tailorbird.chat.conversations import earlier_answers
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data import contamination, quality
from tailorbird.data.contamination import overlapping
from tailorbird.data.curation import (
    CurationTally,
    RowPolicy,
    curated,
    refuse_personal_data,
    report_of,
)
from tailorbird.data.duplicates.components import Tie, components, connected
from tailorbird.data.duplicates.exact import Item, NamedRows, drop_duplicates, first_places, quarantine
from tailorbird.data.duplicates.near_duplicates import SCHEME as NEAR_SCHEME
from tailorbird.data.duplicates.near_duplicates import near_duplicates
from tailorbird.data.duplicates.shared_text import SharedText, sampled, shared_text
from tailorbird.data.label_errors import LabelledRow, label_suspects
from tailorbird.data.privacy import Redaction
from tailorbird.data.provenance import Amendments, amend_documents, head, salt_of, seal_documents, seal_of
from tailorbird.data.readers.sources import SourceReader, SourceRow, SourceRows, read_column, refuse_if_most, row_id
from tailorbird.data.shifted_part import mark_shifted
from tailorbird.data.split_assignment import (
    SHARES,
    PlacedRows,
    RowCounts,
    SplitAssignment,
    assign_splits,
    check_classes,
    cover_labels,
    label_counts,
    line_of,
    manifest_counts,
    place_rows,
)
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Quarantined, Row, ShiftRule, SnapshotManifest, Split, SplitCounts
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ports.detector import Detector
from tailorbird.system.process import uncollected
from tailorbird.text import label_rules
from tailorbird.text.words import normalise

#: Reasons of rows set aside that progress names.
_REASONS = 3


def no_further_detectors(names: Sequence[str]) -> Sequence[Detector]:
    """What an installation without further detectors opens. Raises Unavailable when one is asked for: nothing is passed over in silence."""
    if names:
        hint = "remove `curation.privacy.detectors`: our own detectors always look"
        raise Unavailable(f"this installation has no detector {names[0]!r}", hint, code="package_missing")
    return ()


@dataclass(frozen=True)
class SnapshotRequest:
    """Request for a snapshot. ``known`` maps row ids of earlier snapshots to (split, group); ``progress`` is told each step.

    ``amendments`` are what happened to rows outside of their files. ``detectors`` open what the objective names beside our own detectors.
    """

    objective: Objective
    folder: Path
    artifacts: ArtifactStore
    known: Mapping[Digest, tuple[str, str]]
    progress: Callable[[str], None]
    amendments: Amendments = field(default_factory=Amendments)
    detectors: Callable[[Sequence[str]], Sequence[Detector]] = no_further_detectors
    shift: ShiftRule | None = None
    """The rule of the shifted part in the objective's last snapshot."""


@dataclass(frozen=True)
class PipelineResult:
    """What the steps found. ``rows`` are those of the snapshot; ``alike`` are the places of ``items`` in each near-duplicate group;
    ``protected`` counts rows set aside by protected set; ``quarantined`` is sorted by file and line.
    """

    sources: SourceRows
    rows: PlacedRows
    items: Sequence[Item]
    alike: Sequence[Sequence[int]]
    duplicates: int
    quarantined: tuple[Quarantined, ...]
    protected: Mapping[str, int]
    tally: CurationTally
    schemes: Mapping[str, str]
    shift: ShiftRule | None = None


def run_pipeline(request: SnapshotRequest) -> PipelineResult:
    """Runs every step. Raises DataInvalid when a file cannot be used, when the labels cannot be learned from, when nothing or no row of a
    split is left, or when the data hold what the objective refuses."""
    objective, tally = request.objective, CurationTally()
    sources, schemes = _curated(request, tally)
    sources, shift = _shifted(sources, request, tally)
    named = NamedRows.of(sources.rows)
    request.progress("looking for exact duplicates")
    distinct = drop_duplicates(named, request.known)
    tally.step("exact duplicates", len(named.rows), distinct.quarantined, repeated=distinct.duplicates)
    labels = label_counts(Counter([item.row.target for item in distinct.items]), objective.task)
    check_classes(labels, objective.task)
    request.progress("looking for near-duplicates and overlaps")
    shared = shared_text([distinct.items[place].row.text for place in sampled([item.id for item in distinct.items])])
    items, ties, protected = _unprotected(without_shared_text(distinct.items, shared), shared, request, tally)
    near, salt, drawn = connected(range(len(items)), ties), salt_of_splits(objective), drawn_splits(objective, sources.rows)
    alike = list(near.parts(smallest=2))
    subjects = subject_ties(items, alike)
    placement = assign_splits(items, [*ties, *subjects], salt, drawn, None if subjects else near)
    thinned = _thin(placement, items, alike) if objective.curation.near_duplicates == "drop" else []
    cover_labels(placement.groups, drawn, objective.task, shifted=shift is not None)
    rows = place_rows(placement.groups, objective.task)
    tally.step("splits", len(items), [*placement.quarantined, *thinned])
    check_classes(dict.fromkeys(labels, 0) | label_counts(rows.counts.targets, objective.task), objective.task)
    refuse_if_most(sources.read, [*sources.quarantined, *distinct.quarantined, *placement.quarantined])
    _check_splits(rows.counts, objective)
    tally.quarantined += [
        *sources.removed_documents,
        *sources.removed,
        *sources.quarantined,
        *distinct.quarantined,
        *placement.quarantined,
        *thinned,
    ]
    reasons = Counter(entry.code for entry in tally.quarantined).most_common(_REASONS)
    first = {entry.code: f"{entry.file}:{entry.line}" for entry in sorted(tally.quarantined, key=lambda each: (each.file, -each.line))}
    why = f": {', '.join(f'{count:,} {code} (first {first[code]})' for code, count in reasons)}" if reasons else ""
    request.progress(
        f"kept {len(rows.placed):,} rows, left out {distinct.duplicates:,} duplicates, quarantined {len(tally.quarantined):,}{why}"
    )
    return PipelineResult(
        sources=sources,
        rows=rows,
        items=items,
        alike=alike,
        duplicates=distinct.duplicates,
        quarantined=tuple(sorted(tally.quarantined, key=lambda entry: (entry.file, entry.line, entry.code))),
        protected=protected,
        tally=tally,
        schemes=schemes,
        shift=shift,
    )


def _curated(request: SnapshotRequest, tally: CurationTally) -> tuple[SourceRows, dict[str, str]]:
    """Rows read, without the personal data and the poor rows that the policy takes out; and the version of each method. Raises Unavailable,
    InvalidInput."""
    objective, policies = request.objective, request.objective.curation.privacy
    privacy = Redaction(policies, request.detectors(policies.detectors), request.amendments.secret)
    reading = SourceReader(objective, request.folder, request.amendments.secret)
    documents, gone = amend_documents(reading.documents, request.amendments)
    policy = RowPolicy(objective, privacy, request.amendments, gone if objective.task.kind is TaskKind.RANK else ())
    rows, removed = list[SourceRow](), list[Quarantined]()
    for found, warning in reading.files():
        kept, taken_out = curated(found, policy, tally)
        rows += kept
        removed += taken_out
        if warning:
            request.progress(warning)
    sources = reading.sources(rows)
    sources = replace(sources, removed=tuple(removed), documents=tuple(documents), removed_documents=tuple(gone.values()))
    read, files = sum(sources.read.values()), f"{len(sources.files)} file{'s' if len(sources.files) > 1 else ''}"
    request.progress(f"read {read:,} rows from {files}, and looked for personal data and poor rows")
    tally.step("read", read, sources.quarantined)
    tally.flow.insert(0, tally.flow.pop())
    refuse_personal_data(privacy.policy, tally)
    if not rows:
        reasons = sum((Counter(step.reasons) for step in tally.flow), Counter[str]()).most_common(1)
        code, count = reasons[0] if reasons else ("that files hold no rows", 0)
        hint = f"the most frequent reason is {code} ({count:,} rows): soften `curation`, or bring other rows"
        raise DataInvalid("no rows are left after curation", hint)
    return sources, {**privacy.schemes, "quality": quality.VERSION, "near": NEAR_SCHEME, "overlap": contamination.SCHEME}


def _shifted(sources: SourceRows, request: SnapshotRequest, tally: CurationTally) -> tuple[SourceRows, ShiftRule | None]:
    """Rows that know whether they are in the shifted part, where the objective asks for one. Raises DataInvalid as ``mark_shifted``.

    An earlier row of train stays out of both: it was learned from, and it does not move.
    """
    policy = request.objective.split
    if policy is None:
        return sources, None

    def hashed(text: str) -> float:
        message = f"tailorbird/shift/v1\n{request.objective.drawn_by}\n{text}".encode()
        return int.from_bytes(hmac.digest(request.amendments.secret, message, "sha256")[:8]) / 2**64

    rule, marked, unusable = mark_shifted(sources.rows, policy, request.shift, hashed)
    rows, learned = list[SourceRow](), list[Quarantined]()
    for row in marked:
        known = row.shifted and request.known.get(row_id(row.text, row.target))
        if row.shifted and (row.fixed is Split.TRAIN or (known and known[0] == Split.TRAIN.value)):
            learned.append(
                quarantine(row, "shifted_in_train", "it is in the shifted part, and was given to train before, or by its source")
            )
        else:
            rows.append(row)
    tally.step("shifted part", len(sources.rows), [*unusable, *learned])
    tally.quarantined += learned
    return replace(sources, rows=tuple(rows), quarantined=(*sources.quarantined, *unusable)), rule


def _unprotected(
    items: Sequence[Item], shared: SharedText, request: SnapshotRequest, tally: CurationTally
) -> tuple[Sequence[Item], list[Tie], Mapping[str, int]]:
    """The items that repeat no protected text, the ties between them, and how many were set aside for each set."""
    protected: dict[str, str] = {}
    for one in request.objective.curation.protected:
        for text in read_column(one.path, one.text, request.folder, "protected_empty"):
            if text is not None:
                protected.setdefault(normalise(text), one.path)
    # Items whose texts are equal (with different targets, or but for what most rows share), nearly alike, or of which one
    # holds most of the other; protected texts have the places after the items.
    size, others = len(items), list(protected)
    compared = [*(item.told or item.folded for item in items), *shared.told(others, others)]
    first, again = first_places(compared)
    texts = [compared[place] for place in first] if again else compared
    pairs = chain(near_duplicates(texts), overlapping(texts))
    ties = [*(tuple(again[index]) for index in sorted(again)), *((first[one], first[other]) for one, other in pairs)]
    if not protected:
        return items, ties, {}
    sets, touched = list(protected.values()), dict[int, str]()
    for part in components(range(size + len(sets)), ties):
        if near := [sets[place - size] for place in part if place >= size]:
            touched |= dict.fromkeys((place for place in part if place < size), min(near))
    gone = [
        quarantine(items[place].row, "contaminates_protected", f"the row, or one nearly like it, is in the protected set {name}")
        for place, name in sorted(touched.items())
    ]
    tally.step("protected sets", size, gone)
    tally.quarantined += gone
    moved = {old: new for new, old in enumerate(place for place in range(size) if place not in touched)}
    inside = [tuple(moved[index] for index in tie if index in moved) for tie in ties]
    return [items[index] for index in moved], [tie for tie in inside if len(tie) > 1], Counter(touched.values())


def _thin(placement: SplitAssignment, items: Sequence[Item], alike: Sequence[Sequence[int]]) -> list[Quarantined]:
    """Of near-duplicates with one target in one split the first stays (one that an earlier snapshot knew before others); the rest go."""
    split_of = {item.id: group.split for group in placement.groups for item in group.items}
    gone: dict[Digest, Quarantined] = {}
    for part in alike:
        kept: set[tuple[str, Split]] = set()
        for item in sorted((items[index] for index in part), key=lambda item: (item.known is None, item.id)):
            if item.id in split_of:
                key = item.row.target, split_of[item.id]
                if key in kept:
                    gone[item.id] = quarantine(item.row, "near_duplicate", "nearly the same as another row with its label")
                kept.add(key)
    for group in placement.groups:
        group.items = [item for item in group.items if item.id not in gone]
    placement.groups = [group for group in placement.groups if group.items]
    return list(gone.values())


def salt_of_splits(objective: Objective) -> str:
    """One salt for all snapshots of an objective, so that a row that was removed and comes back is drawn as before."""
    return hashlib.sha256(f"tailorbird/split/v1\n{objective.tenant}\n{objective.drawn_by}".encode()).hexdigest()


def drawn_splits(objective: Objective, rows: Sequence[SourceRow] = ()) -> tuple[Split, ...]:
    """The splits that rows are drawn into: a dev or test split that comes as a source of its own, or that a column of splits gives to some
    of ``rows``, is not mixed with other rows; examples of what is out of scope are no such split."""
    sources = [source for source in objective.data if not source.out_of_scope]
    told = {source.path for source in sources if source.split_column}
    given = {source.split for source in sources} - {Split.TRAIN.value}
    given |= {row.fixed.value for row in rows if row.fixed and row.place.file in told} if told else set()
    return tuple(split for split in SHARES if split.value not in given)


def _check_splits(counts: RowCounts, objective: Objective) -> None:
    held = (Split.DEV, Split.TEST) if objective.split else ()
    for shifted, splits, what in ((False, tuple(SHARES), "rows"), (True, held, "rows of the shifted part")):
        for split in splits:
            if not counts.splits(shifted=shifted)[split]:
                hint = (
                    "bring more rows, and rows that differ: those that are alike, or belong to one subject, stay in one split; or remove "
                    "`split` from a source so that rows are drawn into all splits"
                )
                raise DataInvalid(f"no {what} for {split.value} are left", hint)


def without_shared_text(items: Sequence[Item], shared: SharedText) -> list[Item]:
    """``items`` that know what tells each from others."""
    told = shared.told([item.row.text for item in items], [item.folded for item in items])
    return [item if text is item.folded else item._replace(told=text) for item, text in zip(items, told, strict=True)]


def subject_ties(items: Sequence[Item], alike: Iterable[Sequence[int]] = ()) -> list[Tie]:
    """Items of one subject. ``alike`` are the near-duplicate groups: what several subjects wrote nearly word for word (a form, a phrase of
    the trade) does not tie their other rows together."""
    owned = [index for index, item in enumerate(items) if item.subject is not None]
    if not owned:
        return []
    shared = {index for part in alike if len({items[index].subject for index in part} - {None}) > 1 for index in part}
    by_subject: dict[str | None, list[int]] = {}
    for index in owned:
        if index not in shared:
            by_subject.setdefault(items[index].subject, []).append(index)
    return [tuple(same) for same in by_subject.values() if len(same) > 1]


class LazyRows:
    """Rows sorted by id, created on access: a million at once would fill the memory."""

    def __init__(self, rows: PlacedRows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows.order)

    def __getitem__(self, place: int) -> Row:
        item, group = self._rows.placed[self._rows.order[place]]
        row = item.row
        more = {"provenance": row.provenance, "shifted": row.shifted}
        return Row(id=item.id, text=row.text, target=row.target, group=group.id, split=group.split, **more)

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))


def write_snapshot(request: SnapshotRequest, gathered: PipelineResult) -> BuiltSnapshot:
    """Stores rows, quarantine, seal, findings and report, and returns the manifest that names them. Lengths are in characters."""
    objective, artifacts, placed = request.objective, request.artifacts, gathered.rows
    salt, documents = salt_of(request.amendments.secret, objective.name), gathered.sources.documents
    lines = [line_of(item, group) for item, group in placed.placed]
    seal = seal_of(salt, ((item.id, line) for (item, _), line in zip(placed.placed, lines, strict=True)))
    rows = artifacts.put(b"\n".join([*map(lines.__getitem__, placed.order), b""]))
    del lines  # they take the room of all rows
    counts = manifest_counts(placed.counts, placed.lengths, objective.task, gathered.shift)
    report = _report(request, gathered, counts["label_counts"], counts["counts"].test)
    expires = {place.retain_until for place in gathered.sources.places}
    if len(expires) > 1:  # some of these may be of rows that were left out
        expires = {item.row.place.retain_until for item, _ in placed.placed}
    expires |= {document.provenance.retain_until for document in documents if document.provenance}
    manifest = SnapshotManifest(
        tenant=objective.tenant,
        objective=objective.name,
        rows=rows,
        quarantine=artifacts.put(_jsonl(gathered.quarantined)),
        read=sum(gathered.sources.read.values()),
        duplicates=gathered.duplicates,
        quarantined=len(gathered.quarantined),
        near_duplicate_groups=report.group_count,
        files=gathered.sources.files,
        salt=salt_of_splits(objective),
        documents=artifacts.put(_jsonl(documents)) if documents else None,
        curation=artifacts.put(canonical_json(report)),
        root=head(seal).root,
        seal=artifacts.put(seal),
        removed=len(gathered.sources.removed),
        expires=min((day for day in expires if day), default=None),
        sealed_documents=seal_documents(documents, salt, artifacts),
        outside=objective.task.out_of_scope.label if objective.task.out_of_scope else "",
        sources=gathered.sources.shapes,
        answers="last" if objective.task.learn == "last" else "all" if objective.task.learn_tool_calls else "words",
        **counts,
    )
    assigned = {item.id: (group.split.value, group.id) for item, group in placed.placed}
    return BuiltSnapshot(manifest, LazyRows(placed), gathered.quarantined, assigned, report)


def _report(request: SnapshotRequest, gathered: PipelineResult, labels: Mapping[str, SplitCounts], test_rows: int) -> CurationReport:
    """The report with suspects and stored findings."""
    placed = map(gathered.rows.placed.__getitem__, gathered.rows.order)
    rows = (LabelledRow(item.id, item.row.text, item.row.target, group.split, item.row) for item, group in placed)
    suspects = label_suspects(rows, request.objective.task)
    findings = sorted(gathered.tally.findings, key=lambda finding: (finding.file, finding.line, finding.code))
    found = {"suspects": suspects.ranked, "suspects_skipped": suspects.skipped}
    found |= {"findings": request.artifacts.put(_jsonl(findings))}
    report = report_of(
        gathered.tally,
        request.objective.curation,
        gathered.schemes,
        gathered.items,
        gathered.alike,
        gathered.protected,
        labels,
        gathered.rows.lengths,
        test_rows,
    )
    return report.model_copy(update=found)


def _jsonl(values: Iterable[Value]) -> bytes:
    """The values, one a line."""
    return b"".join(canonical_json(value) + b"\n" for value in values)


@dataclass(frozen=True)
class BuiltSnapshot:
    """A frozen snapshot. ``rows`` are sorted by id; ``assigned`` maps the id of every row to its (split, group), to be remembered.

    ``report`` says how raw rows became these; ``manifest.curation`` names it.
    """

    manifest: SnapshotManifest
    rows: LazyRows
    quarantined: tuple[Quarantined, ...]
    assigned: dict[Digest, tuple[str, str]]
    report: CurationReport


def build_snapshot(request: SnapshotRequest) -> BuiltSnapshot:
    """Reads, cleans, groups, splits and freezes. The same files, objective and ``known`` give the same digests; appended rows never move
    earlier ones.

    Raises DataInvalid as ``run_pipeline``, and where an example of what is out of scope bears a label, too.
    """
    with uncollected():
        built = write_snapshot(request, run_pipeline(request))
        outside = built.manifest.outside
        if outside not in built.manifest.label_counts:
            return built
        examples = {normalise(row.text): row.provenance for row in built.rows if row.target == outside}
        twice = [row for row in built.rows if row.target != outside and normalise(row.text) in examples]
        if twice:
            known, example = twice[0].provenance, examples[normalise(twice[0].text)]
            more = f", and {len(twice) - 1:,} more like it" if len(twice) > 1 else ""
            raise DataInvalid(
                f"{example.file}:{example.line}: an example of what is out of scope bears a label too, in {known.file}:{known.line}{more}",
                f"decide which it is: remove the row that bears the label, or the one that is called {outside!r}",
                code="labels_collide",
            )
        return built


def load_rows(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split) -> tuple[Row, ...]:
    """The rows of one split, sorted by id: whoever wants test rows has to ask for them. Raises NotFound or Corrupt."""
    named = f'"split":"{split.value}"'.encode()  # rows are stored in the canonical form; within a text, quotation marks are escaped
    found = (Row.model_validate_json(line) for line in artifacts.get(manifest.rows).splitlines() if named in line)
    return tuple(row for row in found if row.split is split)


def group_sizes(rows: Sequence[Row], *, many: bool) -> Callable[[str | None], tuple[int, ...]]:
    """What gives the sizes of the groups (near-duplicates, a subject) that the rows of a label fall into, or, for None, all rows; of all
    labels they are counted at once."""

    @cache
    def by_label() -> dict[str, Counter[str]]:
        groups: dict[str, Counter[str]] = {}
        for row in rows:
            for label in label_rules.split(row.target) if many else (row.target,):
                groups.setdefault(label, Counter())[row.group] += 1
        return groups

    def sizes(label: str | None) -> tuple[int, ...]:
        counts = Counter(row.group for row in rows) if label is None else by_label().get(label, Counter[str]())
        return tuple(counts.values())

    return sizes


def load_quarantine(manifest: SnapshotManifest, artifacts: ArtifactStore) -> tuple[Quarantined, ...]:
    """What was set aside, sorted by file and line. Raises NotFound or Corrupt."""
    return tuple(map(Quarantined.model_validate_json, artifacts.get(manifest.quarantine).splitlines()))


def load_items(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split) -> tuple[Row, ...]:
    """The items of one split of a stored snapshot. Raises NotFound or Corrupt."""
    return items_of_split(manifest, lambda each: load_rows(manifest, artifacts, each), split)


def items_of_split(manifest: SnapshotManifest, rows_of: Callable[[Split], Sequence[Row]], split: Split) -> tuple[Row, ...]:
    """The items of one split in the order of its rows, which ``rows_of`` gives. An item's id is the digest of its text and answer, as a
    row's, and no two share one."""
    rows = rows_of(split)
    if manifest.answers == "last":
        return tuple(rows)
    before = tuple(Split)[: tuple(Split).index(split)]
    seen = {item.id for each in before for row in rows_of(each) for item in answer_items(row, manifest)}
    return tuple(_distinct(rows, manifest, seen))


def answer_items(row: Row, manifest: SnapshotManifest) -> Iterator[Row]:
    """Every answer in ``row`` that is measured, in the order in which they were given; the last is the row itself."""
    if manifest.answers != "last":
        for text, answer in earlier_answers(row.text, calls=manifest.answers == "all"):
            yield row.model_copy(update={"id": row_id(text, answer), "text": text, "target": answer})
    yield row


def _distinct(rows: Sequence[Row], manifest: SnapshotManifest, seen: set[Digest]) -> Iterator[Row]:
    """Each item once, and none that was ``seen``; what is a row of its own is that row's."""
    own = {row.id for row in rows}
    for row in rows:
        for item in answer_items(row, manifest):
            if item.id not in seen and (item.id not in own or item.id == row.id):
                seen.add(item.id)
                yield item
