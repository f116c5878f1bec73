"""What is counted over all rows, from arrays: labels by split, groups of near-duplicates, lengths.

In: arrays of items. Out: counts as a manifest and a report have them. Must not know: texts, files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.appending.conditions import SPLITS
from tailorbird.data.curating import NAMED_GROUPS, Groups
from tailorbird.data.splitting.labels import labels_of
from tailorbird.domain.curation import DuplicateGroup
from tailorbird.domain.dataset import Split, SplitCounts
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


def groups_of(label_N: NDArray[np.int32], target_N: NDArray[np.int32], ids_ND: NDArray[np.uint8], targets: Sequence[str] | None) -> Groups:
    """Near-duplicate groups, as ``curating.groups_of``: ``label_N`` numbers the group of each item, ``targets`` are None without labels."""
    sizes_L = np.bincount(label_N)
    grouped = np.flatnonzero(sizes_L[label_N] > 1)
    conflicting = 0
    if targets is not None and len(grouped):
        both = np.unique(label_N[grouped].astype(np.int64) * len(targets) + target_N[grouped]) // len(targets)
        conflicting = int((np.bincount(both) > 1).sum())
    named = _named(label_N, sizes_L, grouped, ids_ND)
    groups = sorted((_group(named[label], target_N, ids_ND, targets) for label in named), key=lambda group: (-len(group.rows), group.id))
    return Groups(tuple(groups[:NAMED_GROUPS]), int((sizes_L > 1).sum()), conflicting)


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
