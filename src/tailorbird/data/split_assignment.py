"""Split assignment of each item, coverage of every label in every split as far as groups allow, and the rows as they are placed.

The rules, in order: an item that an earlier snapshot placed never moves; an item of a source with a fixed split takes that; all others
follow the group they belong to, or are drawn by the hash of the group's id. A group with a row of the shifted part is never in train: what
is like such a row, or of its subject, is not learned from either.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import accumulate, chain, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.components import Components, Tie, components, connected
from tailorbird.data.duplicates.exact import PROTECTION, Item, contaminant, leaks_into, quarantine
from tailorbird.data.readers.sources import SourcePlace
from tailorbird.domain.dataset import Quarantined, ShiftedPart, ShiftRule, Split, SplitCounts
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.text import label_rules
from tailorbird.text.words import normalise

#: How many groups each label has in each split.
LabelCounts = Counter[tuple[str, Split]]
#: Shares of the three splits where all three are drawn.
SHARES = {Split.TRAIN: 0.6, Split.DEV: 0.2, Split.TEST: 0.2}


_LEARNED = "it is in the shifted part, and nearly like, or of one subject with, an earlier row in train"
_MEASURED = "it is to be learned from, and it is in the shifted part, or nearly like a row there, or of one subject with one"


@dataclass(slots=True)
class SplitGroup:
    """Items that stay together. ``draw`` orders groups by hash; ``free`` groups were drawn now, so that they may still move."""

    id: str
    items: list[Item]
    split: Split
    draw: float
    free: bool

    @property
    def shifted(self) -> bool:
        """True when a row of the shifted part is in it."""
        for item in self.items:  # noqa: SIM110 - half the time, for a million groups of one
            if item.row.shifted:
                return True
        return False


@dataclass
class SplitAssignment:
    """Where everything went."""

    groups: list[SplitGroup] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


def assign_splits(
    items: Sequence[Item], ties: Sequence[Tie], salt: str, drawn: Collection[Split], found: Components | None = None
) -> SplitAssignment:
    """Gives each item a split, or sets it aside. ``drawn`` are the splits that free groups are drawn into; ``found`` is what the ties make
    of all items, where it is known."""
    placement, drawn = SplitAssignment(), frozenset(drawn)
    known_before = [index for index, item in enumerate(items) if item.known]
    if found is None or known_before:
        settled = _settled(items, known_before, ties, placement) if known_before else []
        found = connected(sorted([*settled, *(index for index, item in enumerate(items) if item.known is None)]), ties)
    for part in found.parts():
        known = [items[index] for index in part if items[index].known]
        new = [items[index] for index in part if not items[index].known]
        if known:
            _follow(known, new, salt, placement)
        else:
            _begin(new, salt, drawn, placement)
    return placement


def _settled(items: Sequence[Item], known: Sequence[int], ties: Sequence[Tie], placement: SplitAssignment) -> list[int]:
    """Those of the ``known`` items that can stay. New ties (a subject column added later) may join known items of two splits: the more
    protected stay."""
    settled: list[int] = []
    for part in components(known, ties):
        strongest = max((items[index].known for index in part), key=PROTECTION.__getitem__)
        for index in part:
            if items[index].known is strongest:
                settled.append(index)
            else:
                placement.quarantined.append(contaminant(items[index].row, strongest))
    return settled


def _follow(known: list[Item], new: list[Item], salt: str, placement: SplitAssignment) -> None:
    """Known items stay; new ones follow them, unless they tie two splits together or are fixed to another one.

    What is like a row of a test set that came as a source of its own is set aside, this time as the first time.
    """
    splits = sorted({item.known for item in known if item.known}, key=PROTECTION.__getitem__)
    given = any(item.row.fixed is splits[0] for item in known)
    joining: list[Item] = []
    for item in new:
        if item.row.shifted and Split.TRAIN in splits:
            placement.quarantined.append(quarantine(item.row, "bridges_shift", _LEARNED))
        elif len(splits) > 1:
            reason = f"nearly like, or of one subject with, earlier rows in {' and '.join(split.value for split in splits)}"
            placement.quarantined.append(quarantine(item.row, "bridges_splits", reason))
        elif item.row.fixed is None and given and leaks_into(splits[0], None):
            placement.quarantined.append(contaminant(item.row, splits[0]))
        elif item.row.fixed in (None, splits[0]):
            joining.append(item)
        elif leaks_into(splits[0], item.row.fixed) and PROTECTION[item.row.fixed] < PROTECTION[splits[0]]:
            placement.quarantined.append(contaminant(item.row, splits[0]))
        else:
            reason = f"nearly like, or of one subject with, an earlier row in {splits[0].value}, but fixed to {item.row.fixed.value}"
            placement.quarantined.append(quarantine(item.row, "bridges_splits", reason))
    groups: dict[str, list[Item]] = {}
    for item in known:
        groups.setdefault(item.group, []).append(item)
    groups[min(groups)] += joining
    for group, members in groups.items():
        placement.groups.append(_group(group, members, members[0].known or splits[0], salt, free=False))


def _begin(new: list[Item], salt: str, drawn: Collection[Split], placement: SplitAssignment) -> None:
    """A group of new items only: the most protected fixed split among them decides, or else the hash."""
    if (group := _plain_group(new, salt, drawn)) is not None:
        placement.groups.append(group)
        return
    held = [split for split in SHARES if split in drawn and split is not Split.TRAIN]
    if any(item.row.shifted for item in new):
        new = _without_learned(new, placement, can_hold=bool(held))
    if not new:
        return
    strongest = max((item.row.fixed for item in new), key=PROTECTION.__getitem__)
    leaks = [item for item in new if leaks_into(strongest, item.row.fixed)]
    placement.quarantined += [contaminant(item.row, strongest) for item in leaks]
    kept = [item for item in new if not leaks_into(strongest, item.row.fixed)]
    group = _group(min(item.id for item in kept), kept, strongest or Split.TRAIN, salt, free=strongest is None)
    if group.free:
        group.split = draw_split(group.draw, held if group.shifted else drawn)
    placement.groups.append(group)


def _plain_group(items: list[Item], salt: str, drawn: Collection[Split]) -> SplitGroup | None:
    """The group of items that nothing ties to others; None where an earlier snapshot knew one of them, one is of the shifted part, or
    they are fixed to several splits."""
    for item in items:
        if item.known or item.row.shifted or item.row.fixed is not items[0].row.fixed:
            return None
    fixed = items[0].row.fixed
    group = _group(min([item.id for item in items]), items, fixed or Split.TRAIN, salt, free=fixed is None)
    if group.free:
        group.split = draw_split(group.draw, drawn)
    return group


def _without_learned(new: list[Item], placement: SplitAssignment, *, can_hold: bool) -> list[Item]:
    """Items of a group with shifted rows, without those that are fixed to train; without the shifted ones where neither dev nor test is
    drawn, and none of them is fixed to either."""
    measured = can_hold or any(item.row.fixed in (Split.DEV, Split.TEST) for item in new)
    if not measured:
        reason = "it is in the shifted part, and dev and test come as sources of their own"
        placement.quarantined += [quarantine(item.row, "shifted", reason) for item in new if item.row.shifted]
        return [item for item in new if not item.row.shifted]
    learned = [item for item in new if item.row.fixed is Split.TRAIN]
    placement.quarantined += [quarantine(item.row, "contaminates_shift", _MEASURED) for item in learned]
    return [item for item in new if item.row.fixed is not Split.TRAIN]


def _group(group: str, items: list[Item], split: Split, salt: str, *, free: bool) -> SplitGroup:
    number = int.from_bytes(hashlib.sha256(f"{salt}\n{group}".encode()).digest()[:8])
    return SplitGroup(group, items, split, number / 2**64, free)


def draw_split(draw: float, drawn: Collection[Split]) -> Split:
    """The split at ``draw`` in [0, 1), with the shares of the ``drawn`` splits scaled to 1."""
    for reached, split in _reached(frozenset(drawn)):
        if draw < reached:
            return split
    return max(drawn, key=list(SHARES).index, default=Split.TRAIN)


@cache
def _reached(drawn: frozenset[Split]) -> tuple[tuple[float, Split], ...]:
    """Up to where the draws of each split reach."""
    shares = [SHARES[split] / sum(SHARES[each] for each in SHARES if each in drawn) for split in SHARES if split in drawn]
    return tuple(zip(accumulate(shares), (split for split in SHARES if split in drawn), strict=True))


def labels_of(target: str, task: Task) -> tuple[str, ...]:
    """Exactly one label, or any number of distinct ones, where the task has labels; none for answers in free text."""
    if task.kind is not TaskKind.CLASSIFY:
        return ()
    return label_rules.split(target) if task.labels == "many" else (target,)


#: With more labels than this, and fewer than two rows a label, the column is no column of labels.
MANY = 10


def check_classes(counts: Mapping[str, int], task: Task) -> None:
    """Raises DataInvalid when the labels, each with its number of distinct rows, cannot be learned from. Free answers are no labels; of
    what is out of scope one example will do, since none is needed."""
    if task.kind is not TaskKind.CLASSIFY:
        return
    outside = task.out_of_scope.label if task.out_of_scope else None
    known = {label: count for label, count in counts.items() if label != outside}
    rows = sum(known.values())
    if len(known) > max(MANY, rows / 2):
        message = f"{len(known):,} different labels in {rows:,} rows"
        hint = "check that `label` names the column of the label and `text` that of the text; for free answers use kind: generate"
        raise DataInvalid(message, hint)
    if len(known) < 2:
        called = "known label" if outside else "label"
        message = f"only one {called}, {next(iter(known))[:80]!r}" if known else f"no rows with a {called}"
        raise DataInvalid(f"{message}: there is nothing to tell apart", "bring rows of at least two labels")
    seen: dict[str, str] = {}
    for label in sorted(counts):
        other = seen.setdefault(normalise(label), label)
        if other != label:
            message = f"the labels {other[:80]!r} and {label[:80]!r} differ only in case or white space"
            hint = "spell the label in one way in all files"
            if normalise(label) in ("true", "false"):
                hint += ": a truth value of JSON and Parquet is `true` or `false`, so write that in CSV, too"
            raise DataInvalid(message, hint, code="labels_collide")
    # Examples out of scope that are written in another way would be learned as a label.
    alike = sorted(label for label in counts if outside is not None and _letters(label) == _letters(outside))
    if alike and outside not in alike:
        bearing = f"rows bear the label {alike[0][:80]!r}, and examples out of scope are known by {outside!r}"
        named = json.dumps(alike[0], ensure_ascii=False)
        hint = f"if they are such examples, name it: out_of_scope: {{label: {named}}}; else rename the label"
        raise DataInvalid(f"{bearing}: they would be learned as a label", hint, code="labels_collide")
    small = sorted(label for label, count in known.items() if count < 2)
    if small:
        also = f" (and {len(small) - 1} more labels like it)" if len(small) > 1 else ""
        held = "a single row" if counts[small[0]] else "no row left after quarantine"
        message = f"the label {small[0][:80]!r} has {held}{also}: it cannot be learned and tested"
        hint = "bring more rows of this label (at least 3, better 20), merge it into another label, or remove it"
        raise DataInvalid(message, hint)


def _letters(label: str) -> str:
    return "".join(letter for letter in normalise(label) if letter.isalnum())


#: Where a scarce label is needed most: nothing is learned without train, nothing proven without test.
NEED = (Split.TRAIN, Split.TEST, Split.DEV)


def cover_labels(groups: Sequence[SplitGroup], drawn: Collection[Split], task: Task, *, shifted: bool) -> None:
    """Moves free groups, in place, until each label has a group in each drawn split or no free group can be spared. Where not
    ``shifted``, no row is of the shifted part.

    Free answers count as one label: then no split is left empty. Rows of the shifted part do not count, and their groups do not move; but
    where all of them are in one split that could be in two, one group moves.

    Drawing by hash stratifies in expectation only; a label with few groups can miss a split. Then a free group of that label moves there,
    the one with the smallest draw first, unless its own split would lose a label by that.
    """
    if shifted:
        of_part = {id(group): group for group in groups for item in group.items if item.row.shifted}
        _cover_shifted(sorted(of_part.values(), key=_by_draw), [split for split in drawn if split is not Split.TRAIN])
    _Cover(groups, task).fill(drawn)


def _by_draw(group: SplitGroup) -> tuple[float, str]:
    return group.draw, group.id


def _cover_shifted(groups: Sequence[SplitGroup], held: Sequence[Split]) -> None:
    """Moves a free group to a split that has none of the shifted part."""
    counts = Counter(group.split for group in groups)
    for wanted in held:
        giving = next((group for group in groups if group.free and counts[group.split] > 1), None)
        if not counts[wanted] and giving is not None:
            counts[giving.split] -= 1
            counts[wanted] += 1
            giving.split = wanted


def _targets(group: SplitGroup, task: Task) -> tuple[str, ...]:
    """The targets of a group, as far as its rows are of no shifted part; free answers count as one."""
    targets: tuple[str, ...] = tuple(item.row.target for item in group.items if not item.row.shifted)
    if len(targets) > 1:
        targets = tuple(sorted(set(targets)))
    return targets if task.kind is TaskKind.CLASSIFY else ("",) * bool(targets)


def counted(targets: Iterable[str], splits: Sequence[Split], shifted: Sequence[bool]) -> Counter[tuple[str, Split, bool]]:
    """How often each target, split and flag stand together. Splits are counted by what object they are: a million are not hashed by
    Python."""
    named = {id(split): split for split in Split}
    found = Counter(zip(targets, map(id, splits), shifted, strict=False))
    return Counter({(target, named[split], flag): count for (target, split, flag), count in found.items()})


def _labels(targets: tuple[str, ...], task: Task) -> frozenset[str]:
    free = task.kind is not TaskKind.CLASSIFY
    return frozenset(targets if free else chain.from_iterable(labels_of(target, task) for target in targets))


class _Cover:
    """Groups in the order of their draw, and how many of them each label has in each split."""

    def __init__(self, groups: Sequence[SplitGroup], task: Task) -> None:
        # How many of ``groups`` each label has in each split; rows of the shifted part do not count.
        alone = [group for group in groups if len(group.items) == 1]
        rows = [group.items[0].row for group in alone]
        found = counted(
            repeat("") if task.kind is not TaskKind.CLASSIFY else [row.target for row in rows],
            [group.split for group in alone],
            [row.shifted for row in rows],
        )
        together = Counter((_targets(group, task), group.split) for group in groups if len(group.items) > 1)
        together.update({((target,), split): count for (target, split, shifted), count in found.items() if not shifted})
        counts = LabelCounts()
        for (targets, split), count in together.items():
            for label in _labels(targets, task):
                counts[label, split] += count
        self._groups, self._task, self._counts = groups, task, counts
        self._known: dict[tuple[str, ...], frozenset[str]] = {}

    def _labels(self, targets: tuple[str, ...]) -> frozenset[str]:
        if targets not in self._known:
            self._known[targets] = _labels(targets, self._task)
        return self._known[targets]

    @cached_property
    def _holders(self) -> Mapping[str, Sequence[tuple[SplitGroup, frozenset[str]]]]:
        """The groups of each label: asked where one is to move, which is seldom among many."""
        found: dict[str, list[tuple[SplitGroup, frozenset[str]]]] = {}
        for group in sorted(self._groups, key=_by_draw):
            labels = self._labels(_targets(group, self._task))
            for label in labels:
                found.setdefault(label, []).append((group, labels))
        return found

    def fill(self, drawn: Collection[Split]) -> None:
        """Fills what is empty, scarcest need first."""
        for label in sorted({label for label, _ in self._counts}):
            for wanted in NEED:
                if wanted in drawn and not self._counts[label, wanted]:
                    self._fill_one(label, wanted)

    def _fill_one(self, label: str, wanted: Split) -> None:
        for group, labels in self._holders[label]:
            # A group may leave when its split keeps all of its labels; a split may give up the wanted label to one that needs
            # it more.
            spare = self._counts[label, group.split] > 1 or NEED.index(wanted) < NEED.index(group.split)
            if group.free and not group.shifted and spare and all(self._counts[other, group.split] > 1 for other in labels - {label}):
                for each in labels:
                    self._counts[each, group.split] -= 1
                    self._counts[each, wanted] += 1
                group.split = wanted
                return


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


def manifest_counts(counts: RowCounts, lengths: Sequence[int] | NDArray[np.int32], task: Task, rule: ShiftRule | None) -> dict[str, Any]:
    """What a manifest says of its rows; ``lengths`` are in characters, ascending. A label that lost its last row is no label any more."""
    shift = rule and ShiftedPart(
        rule=rule, counts=split_counts(counts.splits(shifted=True)), label_counts=counts.labels(task, shifted=True)
    )
    sets = {target for target, split, _ in counts.rows if split is Split.TRAIN} if task.labels == "many" else ()
    return {
        "counts": split_counts(counts.splits()),
        "label_counts": counts.labels(task),
        "label_sets": tuple(sorted(sets)),
        "text_length_p95": int(lengths[(95 * len(lengths) + 99) // 100 - 1]),
        "text_length_max": int(lengths[-1]),
        "shift": shift,
    }


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
