"""Rows as they are stored where each is a group of its own, as most are: made while others search for near-duplicates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item
from tailorbird.data.item_digests import ItemDigests, numbers_of
from tailorbird.data.placed_rows import Placed
from tailorbird.data.provenance.merkle_seal import MEMBER, content_of, member
from tailorbird.data.splits.split_assignment import SplitGroup, singleton_group
from tailorbird.data.stored_lines import line_of, regrouped
from tailorbird.domain.dataset import Split


class SingletonRows:
    """For each of N items the group that it has by itself (None where an earlier snapshot or the shifted part has a say), and by its number
    the line as stored and the member of the seal. Empty where nothing was made. ``digests`` are those of the
    items."""

    def __init__(self) -> None:
        self.groups: list[SplitGroup | None] = []
        self.digests = ItemDigests()
        self._splits: list[Split | None] = []
        self._lines: list[bytes] = []
        self._members = bytearray()

    def make(self, items: Sequence[Item], salt: str, drawn: Collection[Split], seal_salt: bytes) -> None:
        """Makes those of ``items``, of which the splits ``drawn`` are drawn with ``salt``."""
        self.digests.make(items)
        drawn, size = frozenset(drawn), max((item.number for item in items), default=-1) + 1
        self._splits, self._lines, self._members = [None] * size, [b""] * size, bytearray(MEMBER * size)
        for item in items:
            group, number = singleton_group(item, salt, drawn), item.number
            self.groups.append(group)
            if group is not None:
                self._splits[number] = group.split  # it may be given another one later
                self._lines[number] = line = line_of(item, group)
                self._members[MEMBER * number : MEMBER * (number + 1)] = member(item.id, line, seal_salt)

    def stored(self, placed: Placed, seal_salt: bytes) -> tuple[list[bytes], NDArray[np.uint8]]:
        """The lines of M rows, of items that lines were made of, and their members of the seal, uint8[M, 64]: made now where nothing was,
        or for another group or split. What was made is used up."""
        if not self._lines:
            lines = [line_of(item, group) for item, group in placed]
            made = b"".join(member(item.id, line, seal_salt) for (item, _), line in zip(placed, lines, strict=True))
            return lines, np.frombuffer(made, dtype=np.uint8).reshape(-1, MEMBER)
        numbers_M, splits = numbers_of([item for item, _ in placed]), self._splits
        lines = list(map(self._lines.__getitem__, numbers_M.tolist()))
        members_MB = np.frombuffer(self._members, dtype=np.uint8).reshape(-1, MEMBER)[numbers_M]
        changed, contents = list[int](), list[bytes]()
        for place, (item, group) in enumerate(placed):
            if group.split is splits[item.number] and group.id == item.id:
                continue
            if line := lines[place]:
                lines[place] = line = regrouped(line, item, group)
                changed.append(place)
                contents.append(content_of(line, seal_salt))
            else:
                lines[place] = line = line_of(item, group)
                members_MB[place] = np.frombuffer(member(item.id, line, seal_salt), dtype=np.uint8)
        members_MB[changed, MEMBER // 2 :] = np.frombuffer(b"".join(contents), dtype=np.uint8).reshape(-1, MEMBER // 2)
        self._lines, self._members = [], bytearray()
        return lines, members_MB
