"""Rows as they are stored, made while others search for near-duplicates: most ties are known by then."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.components import Tie, connected
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.split_groups import subject_ties
from tailorbird.data.item_columns import ItemColumns
from tailorbird.data.item_digests import ItemDigests, numbers_of
from tailorbird.data.placed_rows import Placed
from tailorbird.data.provenance.merkle_seal import MEMBER, MemberHashes, Seal, SealDraft, sealed
from tailorbird.data.splits.split_assignment import KnownGroups, SplitGroup, groups_so_far
from tailorbird.data.stored_lines import line_of, regrouped
from tailorbird.domain.dataset import Split
from tailorbird.domain.value import Digest


class Drawing(NamedTuple):
    """What decides about a group's split: the splits that are ``drawn``, with ``salt``."""

    salt: str
    drawn: Collection[Split]


class SealedRows(NamedTuple):
    """M rows as they are stored: the line of each, their seal, and the (split, group) of each by its id."""

    lines: list[bytes]
    seal: Seal
    assigned: dict[Digest, tuple[str, str]]


class PreparedRows:
    """For N items the groups that the ties known so far make of them, and of each item of these what is stored: its line, its member in
    the seal, its place. Empty where nothing was made. ``digests`` and ``columns`` are those of the items; ``seal_salt`` is
    that of the seal's members."""

    def __init__(self, seal_salt: bytes) -> None:
        self._seal_salt = seal_salt
        self.groups: KnownGroups | None = None
        self.digests = ItemDigests()
        self.columns = ItemColumns()
        self._draft: _Draft | None = None

    def make(self, items: Sequence[Item], ties: Sequence[Tie], drawing: Drawing) -> None:
        """Makes those of ``items``, between which there are ``ties`` and may be more."""
        near = connected(range(len(items)), ties)
        subjects = subject_ties(items, near.parts(smallest=2))
        found = connected(range(len(items)), [*ties, *subjects]) if subjects else near
        self.groups = groups_so_far(items, found, drawing.salt, drawing.drawn)
        self._draft = _Draft(self.groups.groups, self._seal_salt)

    def stored(self, placed: Placed) -> SealedRows:
        """Rows as they are stored: made now where nothing was, or for another group or split. What was made is used up."""
        draft, self._draft = self._draft, None
        return (draft or _Draft([], self._seal_salt)).rows(placed)


class _Draft:
    """What is stored of the items of ``groups``, as these are now: by the number of each item its group, its line and the place of its
    member among all; their seal, and the (split, group) of each by its id."""

    def __init__(self, groups: Sequence[SplitGroup], seal_salt: bytes) -> None:
        self._hashes, self._splits = MemberHashes(seal_salt), [(group, group.split) for group in groups]
        size = max((item.number for group in groups for item in group.items), default=-1) + 1
        self._group_at: list[SplitGroup | None] = [None] * size
        self._lines, self._place_at, members = [b""] * size, [-1] * size, list[bytes]()
        for group in groups:
            for item in group.items:
                number = item.number
                self._group_at[number] = group
                self._place_at[number] = len(members)
                self._lines[number] = line = line_of(item, group)
                members.append(self._hashes.member(item.id, line))
        self._size, self._seal = len(members), SealDraft(_array(members))
        self._assigned = assigned_by([(item, group) for group in groups for item in group.items])

    def rows(self, placed: Placed) -> SealedRows:
        """The rows of ``placed``: of items that were not among those, and of items with another group or split by now, they are made."""
        numbers = numbers_of([item for item, _ in placed]).tolist()
        size, moved = len(self._group_at), {id(group) for group, split in self._splits if group.split is not split}
        before = [self._group_at[number] if number < size else None for number in numbers]
        lines, again, new = [self._lines[number] if number < size else b"" for number in numbers], list[int](), list[int]()
        for place, ((item, group), was) in enumerate(zip(placed, before, strict=True)):
            if was is None:
                lines[place] = line_of(item, group)
                new.append(place)
            elif id(group) in moved if group is was else group.id != was.id or group.split is not was.split:
                lines[place] = regrouped(lines[place], item, group)
                again.append(place)
        made = [self._hashes.member(placed[place][0].id, lines[place]) for place in chain(again, new)]
        if not self._size:
            return SealedRows(lines, sealed(_array(made)), assigned_by(placed))
        if new or len(placed) < self._size:
            at = [-1 if was is None else self._place_at[number] for number, was in zip(numbers, before, strict=True)]
            members_MB = self._seal.members(at)
            members_MB[[*again, *new]] = _array(made)
            return SealedRows(lines, sealed(members_MB), assigned_by(placed))
        self._assigned |= assigned_by([placed[place] for place in again])
        return SealedRows(lines, self._seal.changed([self._place_at[numbers[place]] for place in again], made), self._assigned)


def _array(members: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(members), dtype=np.uint8).reshape(-1, MEMBER)


def assigned_by(placed: Placed) -> dict[Digest, tuple[str, str]]:
    """The (split, group) of each row by its id."""
    named = {id(split): split.value for split in Split}
    return {item.id: (named[id(group.split)], group.id) for item, group in placed}
