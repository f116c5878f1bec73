"""Curation report, quarantine and findings of earlier rows merged with those of new rows."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data.curation import NAMED_GROUPS, CurationTally, NearDuplicateGroups
from tailorbird.data.incremental.conditions import SPLITS
from tailorbird.data.incremental.new_row_splits import AssignedRows
from tailorbird.data.incremental.state import State
from tailorbird.data.splits.split_assignment import labels_of
from tailorbird.domain.curation import CurationReport, DuplicateGroup, FlowStep, QualityRule, RowFinding
from tailorbird.domain.dataset import Quarantined, Split, SplitCounts
from tailorbird.domain.objective import Task


def rows_by_target(target_N: NDArray[np.int32], split_N: NDArray[np.int8], targets: int) -> NDArray[np.int64]:
    """Rows in the snapshot by target and split, int64[targets, 3]."""
    placed = split_N >= 0
    counts = np.bincount(target_N[placed].astype(np.int64) * 3 + split_N[placed], minlength=3 * targets)
    return np.asarray(counts.reshape(targets, 3), dtype=np.int64)


def counts_by_label(have: NDArray[np.int64], targets: Sequence[str], task: Task) -> dict[str, SplitCounts]:
    """The same by single label, for a manifest."""
    by_label: dict[str, NDArray[np.int64]] = {}
    for target, counts in zip(targets, have, strict=True):
        for label in labels_of(target, task) if counts.sum() else ():
            by_label[label] = by_label.get(label, 0) + counts
    return {label: SplitCounts(**dict(zip(SPLITS, by_label[label].tolist(), strict=True))) for label in sorted(by_label)}


def sets_in_train(have: NDArray[np.int64], targets: Sequence[str]) -> tuple[str, ...]:
    """The targets that rows of train have, sorted."""
    train = have[:, SPLITS.index(Split.TRAIN)]
    return tuple(sorted(target for target, count in zip(targets, train, strict=True) if count))


def labels_counted(target_N: NDArray[np.int32], targets: Sequence[str], task: Task) -> Counter[str]:
    """How many distinct rows each label has, placed or not."""
    counted: Counter[str] = Counter()
    for target, count in zip(targets, np.bincount(target_N, minlength=len(targets)).tolist(), strict=True):
        counted.update({label: count for label in labels_of(target, task) if count})
    return counted


def groups_of(
    label_N: NDArray[np.int32], target_N: NDArray[np.int32], ids_ND: NDArray[np.uint8], targets: Sequence[str] | None
) -> NearDuplicateGroups:
    """Near-duplicate groups, as ``curation.groups_of``: ``label_N`` numbers the group of each item, ``targets`` are None without labels."""
    sizes_L = np.bincount(label_N)
    grouped = np.flatnonzero(sizes_L[label_N] > 1)
    conflicting = 0
    if targets is not None and len(grouped):
        both = np.unique(label_N[grouped].astype(np.int64) * len(targets) + target_N[grouped]) // len(targets)
        conflicting = int((np.bincount(both) > 1).sum())
    named = _named(label_N, sizes_L, grouped, ids_ND)
    groups = sorted((_group(named[label], target_N, ids_ND, targets) for label in named), key=lambda group: (-len(group.rows), group.id))
    return NearDuplicateGroups(tuple(groups[:NAMED_GROUPS]), int((sizes_L > 1).sum()), conflicting)


def _named(
    label_N: NDArray[np.int32], sizes_L: NDArray[np.intp], grouped: NDArray[np.intp], ids_ND: NDArray[np.uint8]
) -> dict[int, list[int]]:
    """The items of the largest groups, and of those as large as the last of these whose ids come first."""
    order = grouped[np.argsort(label_N[grouped], kind="stable")]
    if not len(order):
        return {}
    first_N = np.ascontiguousarray(ids_ND[order, :8]).view(">u8")[:, 0].astype(np.uint64)
    begins = np.flatnonzero(np.concatenate([[True], label_N[order][1:] != label_N[order][:-1]]))
    labels, least = label_N[order][begins], np.minimum.reduceat(first_N, begins)
    chosen = np.lexsort((least, -sizes_L[labels]))[: NAMED_GROUPS + 1]
    return {int(labels[at]): order[begins[at] : begins[at] + sizes_L[labels[at]]].tolist() for at in chosen.tolist()}


def _group(places: list[int], target_N: NDArray[np.int32], ids_ND: NDArray[np.uint8], targets: Sequence[str] | None) -> DuplicateGroup:
    digits = ids_ND[places].tobytes().hex()
    rows = sorted(["sha256:" + digits[at : at + 64] for at in range(0, len(digits), 64)])
    labels = Counter(map(targets.__getitem__, target_N[places].tolist())) if targets is not None else Counter[str]()
    return DuplicateGroup(id=rows[0], rows=tuple(rows), labels=dict(sorted(labels.items())), conflicting=len(labels) > 1)


def tally_with(
    report: CurationReport, new: CurationTally, quarantined: Sequence[Quarantined], splits: tuple[int, Sequence[Quarantined]]
) -> CurationTally:
    """Everything counted. ``splits`` are the items that came before that step, and all that it set aside."""
    later = {step.name: step for step in new.flow}
    tally = CurationTally(flow=[_added(step, later.get(step.name)) for step in report.flow if step.name != "splits"])
    tally.step("splits", *splits)
    tally.quarantined = list(quarantined)
    tally.personal_rows = Counter({count.kind: count.rows for count in report.personal}) + new.personal_rows
    tally.personal_found = Counter({count.kind: count.occurrences for count in report.personal}) + new.personal_found
    tally.quality = Counter({QualityRule(rule): count for rule, count in report.quality.items()}) + new.quality
    return tally


def _added(step: FlowStep, later: FlowStep | None) -> FlowStep:
    if later is None:
        return step
    return FlowStep(
        name=step.name,
        before=step.before + later.before,
        after=step.after + later.after,
        changed=step.changed + later.changed,
        reasons=dict(sorted((Counter(step.reasons) + Counter(later.reasons)).items())),
    )


def quarantine_with(
    stored: bytes, fresh: Sequence[Quarantined], state: State, placed: AssignedRows
) -> tuple[tuple[Quarantined, ...], list[Quarantined]]:
    """All that was set aside, sorted; and those of it that the splits set aside. Parts that were placed again are judged anew."""
    judged, unplaced = _lines(state, placed)
    earlier = [entry for entry in map(Quarantined.model_validate_json, stored.splitlines()) if (entry.file, entry.line) not in judged]
    set_aside = [entry for entry in earlier if (entry.file, entry.line) in unplaced] + placed.set_aside
    everything = [*earlier, *fresh, *placed.set_aside]
    return tuple(sorted(everything, key=lambda entry: (entry.file, entry.line, entry.code))), set_aside


def _lines(state: State, placed: AssignedRows) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Files and lines of earlier items that were placed again; and of those that had no place before."""
    without = set(np.flatnonzero(state["split"] < 0).tolist())
    again = {place for place in placed.places.tolist() if place in without}
    files = state.facts["files"]

    def lines(places: set[int]) -> set[tuple[str, int]]:
        return {(files[int(state["file"][place])][0], int(state["line"][place])) for place in places}

    return lines(again), lines(without)


def findings_with(stored: bytes, new: Sequence[RowFinding]) -> bytes:
    """All findings as stored, sorted by file, line and code: those of a file that grew stand behind its earlier ones."""
    lines = stored.splitlines()
    for file in sorted({finding.file for finding in new}):
        added = sorted((finding for finding in new if finding.file == file), key=lambda finding: (finding.line, finding.code))
        at = bisect_right(lines, file, key=lambda line: str(json.loads(line)["file"]))
        lines[at:at] = map(canonical_json, added)
    return b"".join(line + b"\n" for line in lines)
