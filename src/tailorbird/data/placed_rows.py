"""Rows of a snapshot with their groups: as they are stored, and how many there are of each kind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item
from tailorbird.data.readers import SourcePlace
from tailorbird.data.split_assignment import SplitGroup, counted, labels_of
from tailorbird.domain.dataset import Split, SplitCounts
from tailorbird.domain.objective import Task, TaskKind

Placed = Sequence[tuple[Item, SplitGroup]]


class RowCounts(NamedTuple):
    """Rows by target (empty where answers are free), split, and whether they are of the shifted part."""

    rows: Counter[tuple[str, Split, bool]]

    @property
    def targets(self) -> Counter[str]:
        """Rows by target."""
        found = Counter[str]()
        for (target, _, _), count in self.rows.items():
            found[target] += count
        return found

    def splits(self, *, shifted: bool | None = None) -> Counter[Split]:
        """Rows by split: all, those of the shifted part, or the others."""
        found = Counter[Split]()
        for (_, split, of_part), count in self.rows.items():
            if shifted in (None, of_part):
                found[split] += count
        return found

    def labels(self, task: Task, *, shifted: bool | None = None) -> dict[str, SplitCounts]:
        """Rows of each label by split, the labels in order; none where answers are free."""
        found: dict[str, Counter[Split]] = {}
        for (target, split, of_part), count in self.rows.items():
            for label in labels_of(target, task) if shifted in (None, of_part) else ():
                found.setdefault(label, Counter())[split] += count
        return {label: split_counts(found[label]) for label in sorted(found)}


@dataclass(frozen=True)
class PlacedRows:
    """Rows of the snapshot with their groups as they lie in memory, in which a million are gone through sooner than in the ``order`` of
    their ids; how many they are; ``lengths`` of their texts in characters, ascending."""

    placed: Placed
    order: Sequence[int]
    counts: RowCounts
    lengths: NDArray[np.int32]


def place_rows(groups: Sequence[SplitGroup], task: Task) -> PlacedRows:
    """The rows of ``groups``."""
    placed = [(item, group) for group in groups for item in group.items]
    ids, rows = [item.id for item, _ in placed], [item.row for item, _ in placed]
    targets = repeat("") if task.kind is not TaskKind.CLASSIFY else [row.target for row in rows]
    counts = RowCounts(counted(targets, [group.split for _, group in placed], [row.shifted for row in rows]))
    lengths = np.sort(np.fromiter((len(row.text) for row in rows), np.int32, len(rows)))
    return PlacedRows(placed, sorted(range(len(ids)), key=ids.__getitem__), counts, lengths)


def label_counts(targets: Mapping[str, int], task: Task) -> Counter[str]:
    """How many rows each label has, of rows by their target; a row counts for each of its labels."""
    found = Counter[str]()
    for target, count in targets.items():
        for label in labels_of(target, task):
            found[label] += count
    return found


def split_counts(counter: Mapping[Split, int]) -> SplitCounts:
    """Rows per split."""
    return SplitCounts(**{split.value: counter.get(split, 0) for split in Split})


#: For texts, whole numbers and lists of them, this is the canonical form (RFC 8785); a million rows ask for it.
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_text = json.JSONEncoder(ensure_ascii=False).encode


def line_of(item: Item, group: SplitGroup) -> bytes:
    """The canonical JSON of the row, without making it; keys in their order, since a million rows ask for it."""
    row, (before, after) = item.row, _place_of(item.row.place)
    named = f'"{item.id}"' if group.id == item.id else _text(group.id)  # most rows are like no other
    subject = "" if row.subject is None else f',"subject":{_text(row.subject)}'
    transforms = f',"transforms":{_canonical(row.transforms)}' if row.transforms else ""
    provenance = f'{before}"line":{row.line},{after}{subject}{transforms}'
    shifted = '"shifted":true,' if row.shifted else ""
    head = f'{{"group":{named},"id":"{item.id}","provenance":{{{provenance}}},{shifted}"split":"{group.split.value}"'
    return f'{head},"target":{_text(row.target)},"text":{_text(row.text)}}}'.encode()


@lru_cache(maxsize=1024)
def _place_of(place: SourcePlace) -> tuple[str, str]:
    """What stands before the line, and behind it, in the canonical JSON of the provenance of the rows of a place."""
    before = {"collected": place.collected, "consent": place.consent, "file": place.file, "license": place.license}
    if place.file_digest:
        before["file_digest"] = place.file_digest
    after = {"origin": place.origin}
    if place.retain_until:
        after["retain_until"] = place.retain_until.isoformat()
    return f"{_canonical(before)[1:-1]},", _canonical(after)[1:-1]
