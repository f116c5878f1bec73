"""Rows as they are stored where each is a group of its own, as most are: made while others search for near-duplicates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tailorbird.data.duplicates.exact import Item
from tailorbird.data.provenance.merkle_seal import MEMBER, content_of, member
from tailorbird.data.splits.split_assignment import SplitGroup, singleton_group
from tailorbird.data.stored_lines import line_of, regrouped
from tailorbird.domain.dataset import Split


class SingletonRows:
    """For each of N items the group that it has by itself (None where an earlier snapshot or the shifted part has a say), and by its number
    the line as stored and the member of the seal. Empty where nothing was made."""

    def __init__(self) -> None:
        self.groups: list[SplitGroup | None] = []
        self._splits: list[Split | None] = []
        self._lines: list[bytes] = []
        self._members = bytearray()

    def make(self, items: Sequence[Item], salt: str, drawn: Collection[Split], seal_salt: bytes) -> None:
        """Makes those of ``items``, of which the splits ``drawn`` are drawn with ``salt``."""
        drawn, size = frozenset(drawn), max((item.number for item in items), default=-1) + 1
        self._splits, self._lines, self._members = [None] * size, [b""] * size, bytearray(MEMBER * size)
        for item in items:
            group, number = singleton_group(item, salt, drawn), item.number
            self.groups.append(group)
            if group is not None:
                self._splits[number] = group.split  # it may be given another one later
                self._lines[number] = line = line_of(item, group)
                self._members[MEMBER * number : MEMBER * (number + 1)] = member(item.id, line, seal_salt)

    def stored(self, item: Item, group: SplitGroup, seal_salt: bytes) -> tuple[bytes, bytes | bytearray]:
        """The line of ``item`` in ``group`` and its member of the seal, made now where it is in another group or split. What was made is
        used up."""
        number = item.number
        line = self._lines[number] if number < len(self._lines) else b""
        if not line:
            line = line_of(item, group)
            return line, member(item.id, line, seal_salt)
        self._lines[number], kept = b"", self._members[MEMBER * number : MEMBER * (number + 1)]
        if group.id == item.id and group.split is self._splits[number]:
            return line, kept
        line = regrouped(line, item, group)
        return line, kept[: MEMBER // 2] + content_of(line, seal_salt)
