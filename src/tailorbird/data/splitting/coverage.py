"""Every label in every split, as far as its groups allow.

In: groups with their split. Out: the same groups, some of the free ones moved. Must not know: files, earlier snapshots.

Drawing by hash stratifies in expectation only; a label with few groups can miss a split. Then a free group of that label moves there,
the one with the smallest draw first, unless its own split would lose a label by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from tailorbird.data.splitting.labels import labels_of
from tailorbird.data.splitting.placing import Group
from tailorbird.domain.dataset import Split
from tailorbird.domain.objective import Task, TaskKind

#: Where a scarce label is needed most: nothing is learned without train, nothing proven without test.
NEED = (Split.TRAIN, Split.TEST, Split.DEV)


def cover_labels(groups: Sequence[Group], drawn: Collection[Split], task: Task) -> None:
    """Moves free groups, in place, until each label has a group in each drawn split or no free group can be spared.

    Free answers count as one label: then no split is left empty. Rows of the shifted part do not count, and their groups do not move; but
    where all of them are in one split that could be in two, one group moves.
    """
    shared: dict[frozenset[str], frozenset[str]] = {}
    ordered = sorted(groups, key=lambda group: (group.draw, group.id))
    _cover_shifted([group for group in ordered if group.shifted], [split for split in drawn if split is not Split.TRAIN])
    labelled = [(group, shared.setdefault(labels, labels)) for group in ordered for labels in (_labels(group, task),)]
    _Cover(labelled).fill(drawn)


def _cover_shifted(groups: Sequence[Group], held: Sequence[Split]) -> None:
    """Moves a free group to a split that has none of the shifted part."""
    counts = Counter(group.split for group in groups)
    for wanted in held:
        giving = next((group for group in groups if group.free and counts[group.split] > 1), None)
        if not counts[wanted] and giving is not None:
            counts[giving.split] -= 1
            counts[wanted] += 1
            giving.split = wanted


def _labels(group: Group, task: Task) -> frozenset[str]:
    items = [item for item in group.items if not item.row.shifted]
    if task.kind is not TaskKind.CLASSIFY:
        return frozenset({""} if items else ())
    return frozenset(label for item in items for label in labels_of(item.row.target, task))


class _Cover:
    """Groups in the order of their draw, and how many of them each label has in each split."""

    def __init__(self, labelled: Sequence[tuple[Group, frozenset[str]]]) -> None:
        self._counts = Counter((label, group.split) for group, labels in labelled for label in labels)
        self._holders: dict[str, list[tuple[Group, frozenset[str]]]] = {}
        for group, labels in labelled:
            for label in labels:
                self._holders.setdefault(label, []).append((group, labels))

    def fill(self, drawn: Collection[Split]) -> None:
        """Fills what is empty, scarcest need first."""
        for label in sorted(self._holders):
            for wanted in NEED:
                if wanted in drawn and not self._counts[label, wanted]:
                    self._fill_one(label, wanted)

    def _fill_one(self, label: str, wanted: Split) -> None:
        for group, labels in self._holders[label]:
            if self._can_move(group, labels, label, wanted):
                for each in labels:
                    self._counts[each, group.split] -= 1
                    self._counts[each, wanted] += 1
                group.split = wanted
                return

    def _can_move(self, group: Group, labels: frozenset[str], label: str, wanted: Split) -> bool:
        """A group may leave when its split keeps all of its labels; a split may give up the wanted label to one that needs it more."""
        spare = self._counts[label, group.split] > 1 or NEED.index(wanted) < NEED.index(group.split)
        return group.free and not group.shifted and spare and all(self._counts[other, group.split] > 1 for other in labels - {label})
