"""Rows as they are stored: a line of canonical JSON each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.exact import Item
from tailorbird.data.readers import SourcePlace
from tailorbird.data.splits.split_assignment import SplitGroup

#: For texts, whole numbers and lists of them, this is the canonical form (RFC 8785); a million rows ask for it.
_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_text = json.JSONEncoder(ensure_ascii=False).encode
_SPLIT = b'"split":"'


def line_of(item: Item, group: SplitGroup) -> bytes:
    """The canonical JSON of the row, without making it; keys in their order, since a million rows ask for it."""
    row, (before, after) = item.row, _place_of(item.row.place)
    subject = "" if row.subject is None else f',"subject":{_text(row.subject)}'
    transforms = f',"transforms":{_canonical(row.transforms)}' if row.transforms else ""
    provenance = f'{before}"line":{row.line},{after}{subject}{transforms}'
    shifted = '"shifted":true,' if row.shifted else ""
    head = f'{{"group":{_named(item, group)},"id":"{item.id}","provenance":{{{provenance}}},{shifted}"split":"{group.split.value}"'
    return f'{head},"target":{_text(row.target)},"text":{_text(row.text)}}}'.encode()


def regrouped(line: bytes, item: Item, group: SplitGroup) -> bytes:
    """The line of ``item`` in ``group``, from that in another one. The group stands first; within a text quotation marks are escaped."""
    begins, at = line.index(b',"id":'), line.index(_SPLIT) + len(_SPLIT)
    ends = line.index(b'"', at)
    return b'{"group":' + _named(item, group).encode() + line[begins:at] + group.split.value.encode() + line[ends:]


def _named(item: Item, group: SplitGroup) -> str:
    return f'"{item.id}"' if group.id == item.id else _text_of(group.id)  # most rows are like no other


class StoredLines:
    """The lines of M rows in the order in which they are stored, one after the other in memory, each with its end. ``order_M`` are the
    rows in this order."""

    def __init__(self, lines: Sequence[bytes], order_M: NDArray[np.intp]) -> None:
        self._place_M = np.empty_like(order_M)
        self._place_M[order_M] = np.arange(len(order_M))
        self._lengths_M = np.fromiter(map(len, lines), np.int32, len(lines))[order_M]
        self._ends_M = np.cumsum(self._lengths_M + np.int64(1))
        self._stored = b"\n".join([*map(lines.__getitem__, order_M.tolist()), b""])

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        """The lines of some rows."""
        places = self._place_M[[*rows]]
        stops = self._ends_M[places] - 1
        starts = stops - self._lengths_M[places]
        return [self._stored[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]

    def changed(self, rows: Sequence[int], lines: Sequence[bytes]) -> tuple[list[bytes | memoryview], NDArray[np.int32]]:
        """What is stored where some rows have other lines, in pieces, and the bytes of each line. Nothing is copied but these."""
        lengths_M, stored = self._lengths_M.copy(), memoryview(self._stored)
        pieces, done, places = list[bytes | memoryview](), 0, self._place_M[[*rows]]
        lengths_M[places] = [*map(len, lines)]
        for number in np.argsort(places).tolist():
            stop = int(self._ends_M[places[number]]) - 1
            pieces += [stored[done : stop - int(self._lengths_M[places[number]])], lines[number]]
            done = stop
        return [*pieces, stored[done:]], lengths_M


@lru_cache(maxsize=1024)
def _text_of(group: str) -> str:
    return _text(group)  # the rows of a group stand one after the other


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
