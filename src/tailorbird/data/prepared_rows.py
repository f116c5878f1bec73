"""Rows as they are stored, made while others search for near-duplicates: most ties are known by then, and what others change is mended."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.digest_arrays import order_of
from tailorbird.data.duplicates.components import Tie, connected
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.split_groups import subject_ties
from tailorbird.data.item_digests import ItemDigests, numbers_of
from tailorbird.data.placed_rows import Placed, PlacedRows, row_counts
from tailorbird.data.provenance.merkle_seal import MEMBER, MemberHashes, Seal, SealDraft, sealed
from tailorbird.data.splits.split_assignment import (
    KnownGroups,
    LabelCounts,
    SplitAssignment,
    SplitGroup,
    cover_labels,
    groups_so_far,
    label_splits,
)
from tailorbird.data.stored_lines import StoredLines, line_of, regrouped
from tailorbird.domain.dataset import Split
from tailorbird.domain.objective import Task
from tailorbird.domain.value import Digest


class Drawing(NamedTuple):
    """What decides about a group's split: the splits that are ``drawn``, with ``salt``, and the labels of the ``task``. ``shifted`` where
    rows may be of the shifted part."""

    salt: str
    drawn: Collection[Split]
    task: Task
    shifted: bool


class SealedRows(NamedTuple):
    """M rows as they are stored, in pieces; the bytes of each without its end; their seal, and the (split, group) of each by its id."""

    pieces: list[bytes | memoryview]
    lengths_M: NDArray[np.int32]
    seal: Seal
    assigned: dict[Digest, tuple[str, str]]


class PreparedRows:
    """For N items the groups that the ties known so far make of them, and of each item of these what is counted, kept and stored: its line,
    its member in the seal, its place. Empty where nothing was made. ``digests`` are those of the items; ``seal_salt`` is
    that of the seal's members."""

    def __init__(self, seal_salt: bytes) -> None:
        self._seal_salt = seal_salt
        self.groups: KnownGroups | None = None
        self.digests = ItemDigests()
        self._draft: _Draft | None = None
        self._moved: Sequence[tuple[SplitGroup, Split]] = ()

    def make(self, items: Sequence[Item], ties: Sequence[Tie], drawing: Drawing) -> None:
        """Makes those of ``items``, between which there are ``ties`` and may be more."""
        near = connected(range(len(items)), ties)
        subjects = subject_ties(items, near.parts(smallest=2))
        found = connected(range(len(items)), [*ties, *subjects]) if subjects else near
        self.groups = groups_so_far(items, found, drawing.salt, drawing.drawn)
        groups = self.groups.groups
        rows = self._rows([(item, group) for group in groups for item in group.items], drawing.task)
        self._draft = _Draft(groups, rows, label_splits(groups, drawing.task), self._seal_salt)

    def placed(self, placement: SplitAssignment, drawing: Drawing) -> PlacedRows:
        """The rows that have a group, once groups were moved so that each split has each label."""
        draft = self._draft if self._draft is not None and self._draft.has_all_of(placement) else None
        counts = draft.cover_of(placement, drawing.task) if draft is not None else None
        self._moved = cover_labels(placement.groups, drawing.drawn, drawing.task, counts, shifted=drawing.shifted)
        if draft is not None:
            return draft.changed(placement, self._moved, drawing.task)
        return self._rows([(item, group) for group in placement.groups for item in group.items], drawing.task)

    def _rows(self, placed: Placed, task: Task) -> PlacedRows:
        of_rows = [item for item, _ in placed]
        order = order_of(self.digests.ids(of_rows))
        lengths = np.sort(np.fromiter((len(item.row.text) for item in of_rows), np.int32, len(placed)))
        return PlacedRows(placed, order, row_counts(placed, task), lengths)

    def stored(self, rows: PlacedRows) -> SealedRows:
        """Rows as they are stored: made now where nothing was, or for another group or split. What was made is used up."""
        draft, self._draft = self._draft, None
        if draft is not None and rows.changed is not None:
            return draft.mended(rows)
        lines = draft.lines(rows.placed, self._moved) if draft is not None else [line_of(item, group) for item, group in rows.placed]
        del draft  # as much as all rows
        seal = sealed(_members(MemberHashes(self._seal_salt), rows.placed, lines))
        return SealedRows(*StoredLines(lines, rows.order).changed([], []), seal, assigned_by(rows.placed))


class _Draft:
    """What is stored of the rows of ``groups``, as these are now: lines, seal, (split, group) of each by its id; and how many groups each
    label has in each split (``cover``)."""

    def __init__(self, groups: Sequence[SplitGroup], rows: PlacedRows, cover: LabelCounts, seal_salt: bytes) -> None:
        self._size, self._rows, self._cover, self._hashes = len(groups), rows, cover, MemberHashes(seal_salt)
        numbers_M = numbers_of([item for item, _ in rows.placed])
        self._row_at = np.full(int(numbers_M.max(initial=-1)) + 1, -1, np.intp)
        self._row_at[numbers_M] = np.arange(len(numbers_M))
        lines = [line_of(item, group) for item, group in rows.placed]
        self._seal = SealDraft(_members(self._hashes, rows.placed, lines))
        self._lines = StoredLines(lines, rows.order)
        self._assigned = assigned_by(rows.placed)

    def has_all_of(self, placement: SplitAssignment) -> bool:
        """True where the rows of ``placement`` are those that were made, whatever became of their groups."""
        gone = {item.number for group in placement.gone for item in group.items}
        new = [item.number for group in placement.groups[placement.kept :] for item in group.items]
        return placement.kept + len(placement.gone) == self._size > 0 and len(new) == len(gone) and gone.issuperset(new)

    def cover_of(self, placement: SplitAssignment, task: Task) -> LabelCounts:
        """How many groups each label has in each split of ``placement``, before any is moved."""
        found = Counter(self._cover)
        found.subtract(label_splits(placement.gone, task))
        found.update(label_splits(placement.groups[placement.kept :], task))
        return +found

    def changed(self, placement: SplitAssignment, moved: Sequence[tuple[SplitGroup, Split]], task: Task) -> PlacedRows:
        """The rows of ``placement``, which are those that were made, once groups were ``moved``. What was made is changed."""
        rows, fresh = self._rows, placement.groups[placement.kept :]
        new, former = {id(group) for group in fresh}, _former(moved)
        elsewhere = {id(group): group for group, _ in moved if id(group) not in new}.values()
        less = [(item, group) for group in placement.gone for item in group.items]
        more = [(item, group) for group in chain(fresh, elsewhere) for item in group.items]
        before = [(item, dataclasses.replace(group, split=former[id(group)])) for group in elsewhere for item in group.items]
        counts = rows.counts.changed(row_counts([*less, *before], task), row_counts(more, task))
        placed, changed = [*rows.placed], list[int]()
        for (item, group), row in zip(more, self._row_at[numbers_of([item for item, _ in more])].tolist(), strict=True):
            was = placed[row][1]
            placed[row] = item, group
            if id(group) in former or group.id != was.id or group.split is not was.split:
                changed.append(row)
        return dataclasses.replace(rows, placed=placed, counts=counts, changed=changed)

    def mended(self, rows: PlacedRows) -> SealedRows:
        """What is stored of ``rows``, of which some were ``changed``."""
        assert rows.changed is not None
        changed, placed = [*rows.changed], [rows.placed[row] for row in rows.changed]
        lines = [regrouped(line, item, group) for line, (item, group) in zip(self._lines.lines(changed), placed, strict=True)]
        seal = self._seal.changed(changed, [self._hashes.member(item.id, line) for (item, _), line in zip(placed, lines, strict=True)])
        self._assigned |= assigned_by(placed)
        return SealedRows(*self._lines.changed(changed, lines), seal, self._assigned)

    def lines(self, placed: Placed, moved: Sequence[tuple[SplitGroup, Split]]) -> list[bytes]:
        """The lines of ``placed``, which may be other rows: those that were made, or that follow from these, and new ones."""
        former, numbers_M = _former(moved), numbers_of([item for item, _ in placed])
        row_M = np.where(numbers_M < len(self._row_at), self._row_at.take(numbers_M, mode="clip"), -1)
        made, lines = iter(self._lines.lines(row_M[row_M >= 0].tolist())), list[bytes]()
        for (item, group), row in zip(placed, row_M.tolist(), strict=True):
            if row < 0:
                lines.append(line_of(item, group))
                continue
            line, was = next(made), self._rows.placed[row][1]
            same = group.id == was.id and group.split is former.get(id(was), was.split)
            lines.append(line if same else regrouped(line, item, group))
        return lines


def _former(moved: Sequence[tuple[SplitGroup, Split]]) -> dict[int, Split]:
    """The split of each group before it was moved, by what object it is."""
    return {id(group): split for group, split in reversed(moved)}


def _members(hashes: MemberHashes, placed: Placed, lines: Sequence[bytes]) -> NDArray[np.uint8]:
    """The members of the seal, uint8[M, 64]."""
    members = b"".join([hashes.member(item.id, line) for (item, _), line in zip(placed, lines, strict=True)])
    return np.frombuffer(members, dtype=np.uint8).reshape(-1, MEMBER)


def assigned_by(placed: Placed) -> dict[Digest, tuple[str, str]]:
    """The (split, group) of each row by its id."""
    named = {id(split): split.value for split in Split}
    return {item.id: (named[id(group.split)], group.id) for item, group in placed}
