"""Rows as they are stored, made while others search for near-duplicates: most ties are known by then."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.components import Tie, components
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.split_groups import subject_ties
from tailorbird.data.item_columns import ItemColumns
from tailorbird.data.item_digests import ItemDigests, numbers_of
from tailorbird.data.placed_rows import Placed
from tailorbird.data.provenance.merkle_seal import MEMBER, content_of, member
from tailorbird.data.splits.split_assignment import KnownGroups, groups_so_far
from tailorbird.data.stored_lines import line_of, regrouped
from tailorbird.domain.dataset import Split


class Drawing(NamedTuple):
    """What decides about a group's split: the splits that are ``drawn``, with ``salt``. ``seal_salt`` is that of the seal's members."""

    salt: str
    drawn: Collection[Split]
    seal_salt: bytes


class PreparedRows:
    """For N items the groups that the ties known so far make of them, and by the number of each item of these its line as stored and its
    member of the seal. Empty where nothing was made. ``digests`` and ``columns`` are those of the items."""

    def __init__(self) -> None:
        self.groups: KnownGroups | None = None
        self.digests = ItemDigests()
        self.columns = ItemColumns()
        self._assumed: list[tuple[str, Split] | None] = []
        self._lines: list[bytes] = []
        self._members = bytearray()

    def make(self, items: Sequence[Item], ties: Sequence[Tie], drawing: Drawing) -> None:
        """Makes those of ``items``, between which there are ``ties`` and may be more."""
        alike = list(components(range(len(items)), ties, smallest=2))
        self.groups = groups_so_far(items, [*ties, *subject_ties(items, alike)], drawing.salt, drawing.drawn)
        size = max((item.number for item in items), default=-1) + 1
        self._assumed, self._lines, self._members = [None] * size, [b""] * size, bytearray(MEMBER * size)
        for group in self.groups.groups:
            assumed = group.id, group.split  # it may be given another one later
            for item in group.items:
                number = item.number
                self._assumed[number] = assumed
                self._lines[number] = line = line_of(item, group)
                self._members[MEMBER * number : MEMBER * (number + 1)] = member(item.id, line, drawing.seal_salt)

    def stored(self, placed: Placed, seal_salt: bytes) -> tuple[list[bytes], NDArray[np.uint8]]:
        """The lines of M rows, of items that lines were made of, and their members of the seal, uint8[M, 64]: made now where nothing was,
        or for another group or split. What was made is used up."""
        if not self._lines:
            lines = [line_of(item, group) for item, group in placed]
            made = b"".join(member(item.id, line, seal_salt) for (item, _), line in zip(placed, lines, strict=True))
            return lines, np.frombuffer(made, dtype=np.uint8).reshape(-1, MEMBER)
        numbers_M = numbers_of([item for item, _ in placed])
        numbers = numbers_M.tolist()
        lines = list(map(self._lines.__getitem__, numbers))
        members_MB = np.frombuffer(self._members, dtype=np.uint8).reshape(-1, MEMBER)[numbers_M]
        changed, contents = list[int](), list[bytes]()
        for place, ((item, group), assumed) in enumerate(zip(placed, map(self._assumed.__getitem__, numbers), strict=True)):
            if assumed is not None and group.id == assumed[0] and group.split is assumed[1]:
                continue
            if line := lines[place]:
                lines[place] = line = regrouped(line, item, group)
                changed.append(place)
                contents.append(content_of(line, seal_salt))
            else:
                lines[place] = line = line_of(item, group)
                members_MB[place] = np.frombuffer(member(item.id, line, seal_salt), dtype=np.uint8)
        members_MB[changed, MEMBER // 2 :] = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(-1, MEMBER // 2)
        self._assumed, self._lines, self._members = [], [], bytearray()
        return lines, members_MB
