"""Data pipeline from an objective's files to rows with splits.

readers → curation (privacy) → provenance (amendments) → curation (quality) → splits (shifted part) → duplicates
→ curation (protected sets) → splits
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tailorbird.data import contamination, quality
from tailorbird.data.contamination import overlapping
from tailorbird.data.curation import (
    CurationTally,
    RowPolicy,
    curated,
    exclude_protected,
    protected_texts,
    refuse_personal_data,
    require_rows,
)
from tailorbird.data.duplicates.components import Tie, connected
from tailorbird.data.duplicates.exact import Distinct, Item, NamedRows, drop_duplicates, first_places, quarantine
from tailorbird.data.duplicates.near_duplicates import SCHEME as NEAR_SCHEME
from tailorbird.data.duplicates.near_duplicates import near_duplicates
from tailorbird.data.duplicates.shared_text import SharedText, sampled, shared_text
from tailorbird.data.placed_rows import PlacedRows, label_counts, place_rows
from tailorbird.data.privacy import Redaction
from tailorbird.data.provenance import Amendments, amend_documents
from tailorbird.data.readers import SourceRow, SourceRows, refuse_if_most, row_id
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.sources import SourceReader, read_file
from tailorbird.data.shifted_part import mark_shifted
from tailorbird.data.split_assignment import (
    SHARES,
    SplitAssignment,
    assign_splits,
    check_classes,
    cover_labels,
)
from tailorbird.domain.dataset import Quarantined, ShiftRule, Split
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.detector import Detector

#: Reasons of rows set aside, and places of each, that progress names.
_REASONS, _PLACES = 3, 3


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
    read = _curated(request, tally)
    sources, named, shift = _shifted(read.sources, read.named, request, tally)
    distinct = _distinct(named, request, tally)
    labels = label_counts(Counter([item.row.target for item in distinct.items]), objective.task)
    check_classes(labels, objective.task)
    request.progress("looking for near-duplicates and overlaps")
    shared = _shared_by(distinct.items)
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
    _check_splits(rows.counts.splits(shifted=False).keys())
    _check_shifted(rows.counts.splits(shifted=True).keys(), objective)
    tally.quarantined += [
        *sources.removed_documents,
        *sources.removed,
        *sources.quarantined,
        *distinct.quarantined,
        *placement.quarantined,
        *thinned,
    ]
    why = quarantine_text(tally.quarantined)
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
        schemes=read.schemes,
        shift=shift,
    )


def quarantine_text(quarantined: Sequence[Quarantined]) -> str:
    """Why rows were set aside, the most frequent reasons first, each with its first places; empty where none was."""
    by_code: dict[str, list[Quarantined]] = {}
    for entry in sorted(quarantined, key=lambda entry: (entry.file, entry.line)):
        by_code.setdefault(entry.code, []).append(entry)
    told = []
    for code, entries in sorted(by_code.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_REASONS]:
        places = ", ".join(f"{entry.file}:{entry.line}" for entry in entries[:_PLACES])
        told.append(f"{len(entries):,} {code} ({places}{', …' if len(entries) > _PLACES else ''})")
    more = f" and {len(by_code) - _REASONS} more reasons" if len(by_code) > _REASONS else ""
    return f": {'; '.join(told)}{more}" if told else ""


class _CuratedSources(NamedTuple):
    """Rows that are left by what is done with each by itself, and the version of each method."""

    sources: SourceRows
    named: NamedRows
    schemes: dict[str, str]


def _curated(request: SnapshotRequest, tally: CurationTally) -> _CuratedSources:
    """Rows read, without the personal data and the poor rows that the policy takes out."""
    objective, privacy = request.objective, _privacy_of(request)
    reading = SourceReader(objective, request.folder, request.amendments.secret)
    documents, gone = amend_documents(reading.documents, request.amendments)
    policy = RowPolicy(objective, privacy, request.amendments, gone if objective.task.kind is TaskKind.RANK else ())
    rows, removed, counted = list[SourceRow](), list[Quarantined](), CurationTally()
    for file, making in reading.files():
        found = read_file(file, making, objective.task)
        reading.note(file, len(found.usable), found.unusable, found.columns)
        kept, taken_out = curated(found.usable, policy, counted)
        rows += kept
        removed += taken_out
        _tell_unknown(file, making, request)
    sources = reading.sources(rows)
    sources = replace(sources, removed=tuple(removed), documents=tuple(documents), removed_documents=tuple(gone.values()))
    read, files = sum(sources.read.values()), f"{len(sources.files)} file{'s' if len(sources.files) > 1 else ''}"
    request.progress(f"read {read:,} rows from {files}, and looked for personal data and poor rows")
    tally.step("read", read, sources.quarantined)
    tally.add(counted)
    refuse_personal_data(privacy.policy, tally)
    require_rows(rows, tally)
    return _CuratedSources(sources, NamedRows.of(sources.rows), _schemes(privacy))


def _tell_unknown(file: DataFile, making: RowBuilder, request: SnapshotRequest) -> None:
    """Judgements of documents that are not there are left out; what is measured is as if nobody had judged them."""
    if making.unknown:
        request.progress(
            f"warning: {sum(making.unknown.values()):,} relevant documents that {len(making.unknown):,} queries of {file.name} name "
            f"(first on line {min(making.unknown)}) are not among the documents, and are left out: recall and ndcg do not miss them"
        )


def _shifted(
    sources: SourceRows, named: NamedRows, request: SnapshotRequest, tally: CurationTally
) -> tuple[SourceRows, NamedRows, ShiftRule | None]:
    """Rows that know whether they are in the shifted part, where the objective asks for one. Raises DataInvalid as ``mark_shifted``.

    An earlier row of train stays out of both: it was learned from, and it does not move.
    """
    policy = request.objective.split
    if policy is None:
        return sources, named, None

    def hashed(text: str) -> float:
        message = f"tailorbird/shift/v1\n{request.objective.drawn_by}\n{text}".encode()
        return int.from_bytes(hmac.digest(request.amendments.secret, message, "sha256")[:8]) / 2**64

    told = mark_shifted(sources.rows, policy, request.shift, hashed)
    rows, places, learned = list[SourceRow](), list[int](), list[Quarantined]()
    for place, row in zip(told.places, told.rows, strict=True):
        if row.shifted and _is_learned(row, request.known):
            learned.append(
                quarantine(row, "shifted_in_train", "it is in the shifted part, and was given to train before, or by its source")
            )
        else:
            rows.append(row)
            places.append(place)
    tally.step("shifted part", len(sources.rows), [*told.unusable, *learned])
    tally.quarantined += learned
    sources = replace(sources, rows=tuple(rows), quarantined=(*sources.quarantined, *told.unusable))
    return sources, named.at(places, rows), told.rule


def _is_learned(row: SourceRow, known: Mapping[Digest, tuple[str, str]]) -> bool:
    return row.fixed is Split.TRAIN or known.get(row_id(row.text, row.target), ("", ""))[0] == Split.TRAIN.value


def _privacy_of(request: SnapshotRequest) -> Redaction:
    """The policy on personal data, ready to be applied. Raises Unavailable, InvalidInput."""
    policy = request.objective.curation.privacy
    return Redaction(policy, request.detectors(policy.detectors), request.amendments.secret)


def _schemes(privacy: Redaction) -> dict[str, str]:
    """The version of each method."""
    return {**privacy.schemes, "quality": quality.VERSION, "near": NEAR_SCHEME, "overlap": contamination.SCHEME}


def _distinct(named: NamedRows, request: SnapshotRequest, tally: CurationTally) -> Distinct:
    request.progress("looking for exact duplicates")
    distinct = drop_duplicates(named, request.known)
    tally.step("exact duplicates", len(named.rows), distinct.quarantined, repeated=distinct.duplicates)
    return distinct


def _unprotected(
    items: Sequence[Item], shared: SharedText, request: SnapshotRequest, tally: CurationTally
) -> tuple[Sequence[Item], list[Tie], Mapping[str, int]]:
    """The items that repeat no protected text, the ties between them, and how many were set aside for each set."""
    protected = protected_texts(request.objective, request.folder)
    ties = text_ties(items, shared.told(protected.texts, protected.texts))
    if not protected.texts:
        return items, ties, {}
    places, counts = exclude_protected(items, protected, ties, tally)
    moved = {old: new for new, old in enumerate(places)}
    inside = [tuple(moved[index] for index in tie if index in moved) for tie in ties]
    return [items[index] for index in places], [tie for tie in inside if len(tie) > 1], counts


def _shared_by(items: Sequence[Item]) -> SharedText:
    """What most of the items share."""
    return shared_text([items[place].row.text for place in sampled([item.id for item in items])])


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


def _check_splits(present: Collection[Split]) -> None:
    for split in SHARES:
        if split not in present:
            hint = (
                "bring more rows, and rows that differ: those that are alike, or belong to one subject, stay in one split; or remove "
                "`split` from a source so that rows are drawn into all splits"
            )
            raise DataInvalid(f"no rows for {split.value} are left", hint, code="split_empty")


def _check_shifted(present: Collection[Split], objective: Objective) -> None:
    for split in (Split.DEV, Split.TEST) if objective.split else ():
        if split not in present:
            hint = "bring more rows, a larger `split: {share: ...}`, or let sources with `split` hold rows of the shifted part, too"
            raise DataInvalid(f"no rows of the shifted part are in {split.value}", hint, code="shift_empty")


def text_ties(items: Sequence[Item], others: Sequence[str]) -> list[Tie]:
    """Items whose texts are equal (with different targets, or but for what most rows share), nearly alike, or of which one holds most of
    the other.

    ``others`` are further normalised texts; they have the places after the items.
    """
    compared = [*(item.told or item.folded for item in items), *others]
    first, again = first_places(compared)
    texts = [compared[place] for place in first] if again else compared
    pairs = chain(near_duplicates(texts), overlapping(texts))
    return [*(tuple(again[index]) for index in sorted(again)), *((first[one], first[other]) for one, other in pairs)]


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
