"""Incremental build: a snapshot from the one before and the rows appended since.

Whatever is not plainly an append (another policy, rows edited or removed, what is kept cut or missing) is told apart by ``NotAnAppend``,
and so is every error: then all rows are read again, and the error is found there, with its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.digest_arrays import digests_of
from tailorbird.data.curation import CurationTally
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.shared_text import shared_text
from tailorbird.data.duplicates.split_groups import without_shared_text
from tailorbird.data.incremental import report_merge
from tailorbird.data.incremental.appended_rows import AppendedRows, NewRows, distinct_new_rows, read_appended_rows
from tailorbird.data.incremental.conditions import (
    SPLITS,
    KnownArrays,
    check_retention,
    conditions,
    first_end,
    is_appendable,
    known_arrays,
    known_digest,
)
from tailorbird.data.incremental.index_merge import MergedIndex, join, sample_since, shared_of
from tailorbird.data.incremental.new_row_splits import AssignedRows, check_cover, place_new_rows
from tailorbird.data.incremental.report_merge import findings_with, quarantine_with, tally_with
from tailorbird.data.incremental.state import NOTHING_KEPT, NotAnAppend, State, load, save_facts, save_rows
from tailorbird.data.incremental.state_writer import terms_of
from tailorbird.data.incremental.stored_rows import MergedRows, StoredRows, TextLookup, places_among
from tailorbird.data.item_columns import item_columns, labelled
from tailorbird.data.item_digests import item_digests
from tailorbird.data.pipeline import SnapshotRequest, cleaned, drawn_splits, privacy_of, salt_of_splits, schemes_of
from tailorbird.data.privacy import Redaction
from tailorbird.data.provenance import salt_of
from tailorbird.data.provenance.merkle_seal import MEMBER, MemberHashes, Seal
from tailorbird.data.readers import SourcePlace, SourceRows, source_of
from tailorbird.data.readers.source_rows import shape_of
from tailorbird.data.snapshot_writer import LazyRows, ManifestContent, manifest_of
from tailorbird.data.splits.split_assignment import SplitGroup, check_classes
from tailorbird.data.stored_lines import line_of
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Quarantined, SnapshotManifest, SourceShape
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.value import Digest


class IncrementalSnapshot(NamedTuple):
    """A snapshot, as ``BuiltSnapshot`` has it."""

    manifest: SnapshotManifest
    rows: LazyRows
    quarantined: tuple[Quarantined, ...]
    assigned: dict[Digest, tuple[str, str]]
    report: CurationReport


def extend_snapshot(request: SnapshotRequest) -> IncrementalSnapshot | None:
    """The snapshot of earlier rows and of those that were appended; None where it has to be built from all rows."""
    if request.memory is None or not is_appendable(request):
        return None
    try:
        with ThreadPoolExecutor(1) as pool:
            known = pool.submit(known_arrays, request.known)
            return _extended(request, load(request.memory), known, privacy_of(request))
    except NotAnAppend as reason:
        if str(reason) != NOTHING_KEPT:
            request.progress(f"all rows are read: {reason}")
    except TailorbirdError:
        request.progress("all rows are read: something in what was appended, or kept, cannot be used")
    return None


@dataclass(frozen=True)
class _Step:
    """Everything that is known before the new rows are compared with earlier ones."""

    state: State
    before: SnapshotManifest
    growth: AppendedRows
    sources: SourceRows
    tally: CurationTally
    new: NewRows
    known: KnownArrays
    stored: StoredRows


def _extended(request: SnapshotRequest, state: State, coming: Future[KnownArrays | None], privacy: Redaction) -> IncrementalSnapshot:
    before, tally = SnapshotManifest.model_validate(state.facts["manifest"]), CurationTally()
    with ThreadPoolExecutor(1) as pool:
        earlier = pool.submit(request.artifacts.get, before.rows)
        known = _checked(request, state, coming.result(), privacy)
        growth = read_appended_rows(request, state.facts["sources"])
        sources = cleaned(growth.as_read, request, privacy, tally) if growth.rows else growth.as_read
        new = distinct_new_rows(sources.rows, state, request.known)
        stored = StoredRows(earlier.result(), state["bytes"])
    tally.step("exact duplicates", len(sources.rows), new.quarantined, repeated=new.duplicates)
    state = _with_names(request, state, new)
    step = _Step(state, before, growth, sources, tally, new, known, stored)
    joined, placed, arrays = _placed(request, step, privacy)
    _check_labels(request, step, placed, arrays)
    return _frozen(request, step, joined, placed, arrays)


def _placed(request: SnapshotRequest, step: _Step, privacy: Redaction) -> tuple[MergedIndex, AssignedRows, dict[str, Any]]:
    """New rows compared with each other and with earlier ones, and given their places."""
    state, objective, items = step.state, request.objective, step.new.items
    fresh = item_columns(items, state.facts, objective)
    request.progress(f"{len(items):,} rows are new: comparing them with each other and with {len(step.stored):,} earlier ones")
    earlier = TextLookup(request, privacy, state, step.stored)
    items = _distinguished(state, items, earlier)
    joined = join(state, items, fresh["subject"], earlier)
    placed = place_new_rows(state, joined, items, request.known, salt_of_splits(objective), drawn_splits(objective))
    return joined, placed, _grown(state, fresh, step.new, joined, placed)


def _distinguished(state: State, items: Sequence[Item], earlier: TextLookup) -> list[Item]:
    """New items that know what tells each from others. Raises NotAnAppend where, with them, something else is shared by most rows."""
    shared, size = shared_of(state), len(state["ids"])
    sample = sample_since(state["ids"], item_digests(items))
    if any(place >= size for place in sample):
        texts = [items[place - size].row.text if place >= size else earlier.of_item(place) for place in sample]
        if not shared_text(texts).same_as(shared):
            raise NotAnAppend("with the new rows, most rows share another text")
    return without_shared_text(items, shared)


def _checked(request: SnapshotRequest, state: State, known: KnownArrays | None, privacy: Redaction) -> KnownArrays:
    """Where earlier rows went. Raises NotAnAppend where something else happened than rows that were appended."""
    if state.facts["conditions"] != conditions(request, schemes_of(privacy)):
        raise NotAnAppend("the objective, a method, an erasure or a decision is another one")
    if known is None or state.facts["known"] != known_digest(known):
        raise NotAnAppend("another curation came between")
    check_retention(state.facts, request.amendments.today)
    return known


def _with_names(request: SnapshotRequest, state: State, new: NewRows) -> State:
    """With numbers for the files, targets and subjects that are new."""
    facts = dict(state.facts)
    files = dict.fromkeys((item.row.place.file, item.row.fixed) for item in new.items)
    named = {name for name, _ in facts["files"]}
    facts["files"] = [*facts["files"], *([name, fixed.value if fixed else None] for name, fixed in files if name not in named)]
    if labelled(request.objective):
        facts["targets"] = list(dict.fromkeys([*facts["targets"], *(item.row.target for item in new.items)]))
    subjects = (item.subject for item in new.items if item.subject is not None)
    facts["subjects"] = list(dict.fromkeys([*facts["subjects"], *subjects]))
    return State(facts, state.arrays)


def _grown(state: State, fresh: Mapping[str, Any], new: NewRows, joined: MergedIndex, placed: AssignedRows) -> dict[str, Any]:
    """All arrays but where rows are stored and sealed."""
    arrays = {name: np.concatenate([state[name], array]) for name, array in fresh.items()}
    ids, size = np.concatenate([state["ids"], item_digests(new.items)]), len(new.items)
    groups, split = (
        np.concatenate([state["groups"], np.zeros((size, 32), np.uint8)]),
        np.concatenate([state["split"], np.full(size, -1, np.int8)]),
    )
    at = [place for place, _, _ in placed.rows]
    if at:
        groups[at] = digests_of(group.id for _, _, group in placed.rows)
        split[at] = [SPLITS.index(group.split) for _, _, group in placed.rows]
    return {**arrays, "ids": ids, "groups": groups, "split": split, "text": joined.text, **joined.arrays}


def _check_labels(request: SnapshotRequest, step: _Step, placed: AssignedRows, arrays: Mapping[str, Any]) -> None:
    """Raises DataInvalid, NotAnAppend: the labels cannot be learned, a label lacks a split, or most rows of a file cannot be used."""
    targets, task, read = step.state.facts["targets"], request.objective.task, _read(step)
    have = report_merge.rows_by_target(arrays["target"], arrays["split"], len(targets))
    check_cover(placed, have, drawn_splits(request.objective), task, targets)
    labels = report_merge.labels_counted(arrays["target"], targets, task)
    check_classes(labels, task)
    check_classes(dict.fromkeys(labels, 0) | report_merge.labels_counted(arrays["target"][arrays["split"] >= 0], targets, task), task)
    names = step.state.facts["files"]
    unplaced = Counter(source_of(names[file][0], read) for file in arrays["file"][arrays["split"] < 0].tolist())
    for name, count in (_faulty(step) + unplaced).items():
        if 2 * count > read[name]:
            raise NotAnAppend("most rows of a file cannot be used")


def _read(step: _Step) -> Counter[str]:
    return Counter({name: source.rows for name, source in step.before.sources.items()}) + Counter(step.growth.read)


def _sources(step: _Step) -> dict[str, SourceShape]:
    """The sources as all rows were read; one that had too many columns to keep has them still."""
    before, fresh = step.before.sources, step.growth.columns
    capped = {name for name, source in before.items() if not source.columns}
    had = {name: frozenset(source.columns) for name, source in before.items()}
    nothing = frozenset[str]()
    columns = {name: had.get(name, nothing) | fresh.get(name, nothing) for name in _read(step) if name not in capped}
    return {name: shape_of(rows, columns.get(name, nothing)) for name, rows in _read(step).items()}


def _faulty(step: _Step) -> Counter[str]:
    entries = (*step.sources.quarantined, *step.new.quarantined)
    return Counter(step.state.facts["faulty"]) + Counter(source_of(entry.file, step.growth.files) for entry in entries)


def _frozen(
    request: SnapshotRequest, step: _Step, joined: MergedIndex, placed: AssignedRows, arrays: dict[str, Any]
) -> IncrementalSnapshot:
    """Stores everything. What waits for the disk waits beside what is hashed."""
    rows_in = sorted(placed.rows, key=lambda row: row[1].id)
    new = [(item.id, line_of(item, group)) for _, item, group in rows_in]
    before = places_among(step.stored, new)
    arrays["row"] = _rows_now(step, rows_in, before)
    assert request.memory is not None
    with ThreadPoolExecutor(2) as pool:
        token = pool.submit(save_rows, request.memory, dict(arrays))
        now = MergedRows(step.stored, new, before)
        rows = pool.submit(request.artifacts.put, *now.parts())
        hashes = MemberHashes(salt_of(request.amendments.secret, request.objective.name))
        seal = _seal(request, step).grown(starmap(hashes.member, new))
        in_order = LazyRows(range(len(now)), now.row)
        members = pool.submit(request.artifacts.put, seal.stored)
        content = _content(request, step, joined, placed, arrays, _Stored(rows.result, in_order, members.result, seal))
        manifest, report = manifest_of(request, content)
        save_facts(request.memory, token.result(), _facts(step, placed, manifest), {"bytes": now.lengths_M, "leaves": seal.leaves_MB})
    request.progress(f"kept {manifest.size:,} rows, {len(new):,} of them new")
    return IncrementalSnapshot(manifest, in_order, content.quarantined, _assigned(request, step, placed, arrays), report)


def _rows_now(step: _Step, placed: Sequence[tuple[int, Item, SplitGroup]], before: NDArray[np.intp]) -> NDArray[np.int32]:
    """Where each item stands among the stored rows."""
    was = step.state["row"]
    shift = np.searchsorted(before, was, side="right")
    row = np.concatenate([np.where(was >= 0, was + shift, -1), np.full(len(step.new.items), -1)]).astype(np.int32)
    row[[place for place, _, _ in placed]] = before + np.arange(len(placed))
    return row


def _seal(request: SnapshotRequest, step: _Step) -> Seal:
    """The seal of before."""
    members = np.frombuffer(request.artifacts.get(str(step.before.seal)), dtype=np.uint8).reshape(-1, MEMBER)
    if len(members) != len(step.state["leaves"]):
        raise NotAnAppend("the seal is of other rows than those that were kept")
    return Seal(members, step.state["leaves"])


class _Stored(NamedTuple):
    """The rows and the seal of now, and what waits until these are stored."""

    rows: Callable[[], Digest]
    read_back: LazyRows
    members: Callable[[], Digest]
    seal: Seal


def _content(
    request: SnapshotRequest, step: _Step, joined: MergedIndex, placed: AssignedRows, arrays: Mapping[str, Any], stored: _Stored
) -> ManifestContent:
    """What the manifest will say."""
    before, task, targets = step.before, request.objective.task, step.state.facts["targets"]
    have = report_merge.rows_by_target(arrays["target"], arrays["split"], len(targets))
    labels = report_merge.counts_by_label(have, targets, task)
    report = CurationReport.model_validate_json(request.artifacts.get(str(before.curation)))
    fresh = [*step.sources.removed, *step.sources.quarantined, *step.tally.quarantined, *step.new.quarantined]
    quarantined, set_aside = quarantine_with(request.artifacts.get(before.quarantine), fresh, step.state, placed)
    return ManifestContent(
        rows=stored.rows,
        read_back=stored.read_back,
        members=stored.members,
        seal=stored.seal,
        splits=dict(zip(SPLITS, have.sum(axis=0).tolist(), strict=True)),
        label_counts=labels,
        label_sets=report_merge.sets_in_train(have, targets) if task.labels == "many" else (),
        lengths=np.sort(arrays["length"][arrays["split"] >= 0]),
        groups=report_merge.groups_of(joined.label[arrays["text"]], arrays["target"], arrays["ids"], targets if labels else None),
        terms=[SourcePlace("", None, terms[1], terms[0], terms[2], terms[3]) for terms in _terms(step)],
        expires=_expires(step, placed),
        protected={},
        tally=tally_with(report, step.tally, quarantined, (len(arrays["split"]), set_aside)),
        schemes=report.schemes,
        findings=findings_with(request.artifacts.get(str(report.findings)), step.tally.findings),
        quarantined=quarantined,
        sources=_sources(step),
        removed=before.removed + len(step.sources.removed),
        duplicates=before.duplicates + step.new.duplicates,
        files=step.growth.files,
    )


def _terms(step: _Step) -> list[list[str]]:
    return [*step.state.facts["terms"], *terms_of({row.place for row in step.sources.rows})]


def _expires(step: _Step, placed: AssignedRows) -> date | None:
    days = [step.before.expires, *(item.row.place.retain_until for _, item, _ in placed.rows)]
    return min((day for day in days if day), default=None)


def _assigned(request: SnapshotRequest, step: _Step, placed: AssignedRows, arrays: Mapping[str, Any]) -> dict[Digest, tuple[str, str]]:
    new = {item.id: (group.split.value, group.id) for _, item, group in placed.rows}
    if step.before.size == len(request.known):
        return {**request.known, **new}
    there = np.flatnonzero(step.state["split"] >= 0)
    earlier = ("sha256:" + id_.tobytes().hex() for id_ in arrays["ids"][there])
    return {id_: request.known[id_] for id_ in earlier} | new


def _facts(step: _Step, placed: AssignedRows, manifest: SnapshotManifest) -> dict[str, Any]:
    facts = step.state.facts
    days = [date.fromisoformat(facts["retain"])] if facts["retain"] else []
    new = {item.id: (group.split.value, group.id) for _, item, group in placed.rows}
    later = known_arrays(new)
    return facts | {
        "sources": step.growth.sources,
        "known": known_digest(step.known.joined(later) if later else None),
        "manifest": manifest.model_dump(mode="json"),
        "faulty": dict(_faulty(step)),
        "retain": first_end([*days, *(row.place.retain_until for row in step.sources.rows)]),
        "terms": sorted(map(list, {tuple(terms) for terms in _terms(step)})),
    }
