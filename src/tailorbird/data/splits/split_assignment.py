"""Which split each item goes to.

The rules, in order: an item that an earlier snapshot placed never moves; an item of a source with a fixed split takes that; all others
follow the group they belong to, or are drawn by the hash of the group's id. A group with a row of the shifted part is never in train: what
is like such a row, or of its subject, is not learned from either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tailorbird.data.duplicates.components import Tie, components
from tailorbird.data.duplicates.exact import PROTECTION, Item, contaminant, leaks_into, quarantine
from tailorbird.domain.dataset import Quarantined, Split

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
        return any(item.row.shifted for item in self.items)


@dataclass
class SplitAssignment:
    """Where everything went."""

    groups: list[SplitGroup] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


def place(items: Sequence[Item], ties: Sequence[Tie], salt: str, drawn: Collection[Split]) -> SplitAssignment:
    """Gives each item a split, or sets it aside. ``drawn`` are the splits that free groups are drawn into."""
    placement = SplitAssignment()
    settled = _settled(items, ties, placement)
    fresh = [index for index, item in enumerate(items) if item.known is None]
    for part in components(sorted([*settled, *fresh]), ties):
        known = [items[index] for index in part if items[index].known]
        new = [items[index] for index in part if not items[index].known]
        if known:
            _follow(known, new, salt, placement)
        else:
            _begin(new, salt, drawn, placement)
    return placement


def _settled(items: Sequence[Item], ties: Sequence[Tie], placement: SplitAssignment) -> list[int]:
    """Known items that can stay. New ties (a subject column added later) may join known items of two splits: the more protected stay."""
    settled: list[int] = []
    for part in components([index for index, item in enumerate(items) if item.known], ties):
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
    groups = _by_group(known)
    groups[min(groups)] += joining
    for group, members in groups.items():
        placement.groups.append(_group(group, members, members[0].known or splits[0], salt, free=False))


def _begin(new: list[Item], salt: str, drawn: Collection[Split], placement: SplitAssignment) -> None:
    """A group of new items only: the most protected fixed split among them decides, or else the hash."""
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


def _by_group(known: list[Item]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in known:
        groups.setdefault(item.group, []).append(item)
    return groups


def _group(group: str, items: list[Item], split: Split, salt: str, *, free: bool) -> SplitGroup:
    number = int.from_bytes(hashlib.sha256(f"{salt}\n{group}".encode()).digest()[:8])
    return SplitGroup(group, items, split, number / 2**64, free)


def draw_split(draw: float, drawn: Collection[Split]) -> Split:
    """The split at ``draw`` in [0, 1), with the shares of the ``drawn`` splits scaled to 1."""
    whole = sum(SHARES[split] for split in drawn)
    reached = 0.0
    for split in SHARES:
        if split in drawn:
            reached += SHARES[split] / whole
            if draw < reached:
                return split
    return max(drawn, key=list(SHARES).index, default=Split.TRAIN)
