"""Label coverage: which labels can be learned, and every label in every split as far as its groups allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tailorbird.data.splits.split_assignment import SplitGroup
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.text.label_sets import split
from tailorbird.text.normalisation import normalise


def labels_of(target: str, task: Task) -> tuple[str, ...]:
    """Exactly one label, or any number of distinct ones, where the task has labels; none for answers in free text."""
    if task.kind is not TaskKind.CLASSIFY:
        return ()
    return split(target) if task.labels == "many" else (target,)


#: With more labels than this, and fewer than two rows a label, the column is no column of labels.
MANY = 10


def check_classes(counts: Mapping[str, int], task: Task) -> None:
    """Raises DataInvalid when the labels, each with its number of distinct rows, cannot be learned from. Free answers are no labels."""
    if task.kind is not TaskKind.CLASSIFY:
        return
    _check_number(counts)
    _check_collisions(counts)
    small = sorted(label for label, count in counts.items() if count < 2)
    if small:
        also = f" (and {len(small) - 1} more labels like it)" if len(small) > 1 else ""
        rows = "a single row" if counts[small[0]] else "no row left after quarantine"
        message = f"the label {small[0][:80]!r} has {rows}{also}: it cannot be learned and tested"
        hint = "bring more rows of this label (at least 3, better 20), merge it into another label, or remove it"
        raise DataInvalid(message, hint, code="class_too_small")


def _check_number(counts: Mapping[str, int]) -> None:
    rows = sum(counts.values())
    if len(counts) > max(MANY, rows / 2):
        message = f"{len(counts):,} different labels in {rows:,} rows"
        hint = "check that `label` names the column of the label and `text` that of the text; for free answers use kind: generate"
        raise DataInvalid(message, hint, code="too_many_classes")
    if len(counts) < 2:
        message = f"only one label, {next(iter(counts))[:80]!r}" if counts else "no rows with a label"
        raise DataInvalid(f"{message}: there is nothing to tell apart", "bring rows of at least two labels", code="too_few_classes")


def _check_collisions(counts: Mapping[str, int]) -> None:
    seen: dict[str, str] = {}
    for label in sorted(counts):
        other = seen.setdefault(normalise(label), label)
        if other != label:
            message = f"the labels {other[:80]!r} and {label[:80]!r} differ only in case or white space"
            raise DataInvalid(message, "spell the label in one way in all files", code="labels_collide")


#: Where a scarce label is needed most: nothing is learned without train, nothing proven without test.
NEED = (Split.TRAIN, Split.TEST, Split.DEV)


def cover_labels(groups: Sequence[SplitGroup], drawn: Collection[Split], task: Task) -> None:
    """Moves free groups, in place, until each label has a group in each drawn split or no free group can be spared.

    Free answers count as one label: then no split is left empty. Rows of the shifted part do not count, and their groups do not move; but
    where all of them are in one split that could be in two, one group moves.
    """
    shared: dict[frozenset[str], frozenset[str]] = {}
    ordered = sorted(groups, key=lambda group: (group.draw, group.id))
    _cover_shifted([group for group in ordered if group.shifted], [split for split in drawn if split is not Split.TRAIN])
    labelled = [(group, shared.setdefault(labels, labels)) for group in ordered for labels in (_labels(group, task),)]
    _Cover(labelled).fill(drawn)


def _cover_shifted(groups: Sequence[SplitGroup], held: Sequence[Split]) -> None:
    """Moves a free group to a split that has none of the shifted part."""
    counts = Counter(group.split for group in groups)
    for wanted in held:
        giving = next((group for group in groups if group.free and counts[group.split] > 1), None)
        if not counts[wanted] and giving is not None:
            counts[giving.split] -= 1
            counts[wanted] += 1
            giving.split = wanted


def _labels(group: SplitGroup, task: Task) -> frozenset[str]:
    items = [item for item in group.items if not item.row.shifted]
    if task.kind is not TaskKind.CLASSIFY:
        return frozenset({""} if items else ())
    return frozenset(label for item in items for label in labels_of(item.row.target, task))


class _Cover:
    """Groups in the order of their draw, and how many of them each label has in each split."""

    def __init__(self, labelled: Sequence[tuple[SplitGroup, frozenset[str]]]) -> None:
        self._counts = Counter((label, group.split) for group, labels in labelled for label in labels)
        self._holders: dict[str, list[tuple[SplitGroup, frozenset[str]]]] = {}
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

    def _can_move(self, group: SplitGroup, labels: frozenset[str], label: str, wanted: Split) -> bool:
        """A group may leave when its split keeps all of its labels; a split may give up the wanted label to one that needs it more."""
        spare = self._counts[label, group.split] > 1 or NEED.index(wanted) < NEED.index(group.split)
        return group.free and not group.shifted and spare and all(self._counts[other, group.split] > 1 for other in labels - {label})
