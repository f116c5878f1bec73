"""Rows of the earlier snapshot as stored, new rows merged among them, and lookup of earlier texts."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.incremental.index_merge import shared_of
from tailorbird.data.incremental.state import NotAnAppend, State
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.privacy import Redaction
from tailorbird.data.readers.appended_reader import GROWING
from tailorbird.data.readers.confined_reader import read_single
from tailorbird.data.readers.data_file import Record
from tailorbird.data.readers.source_resolver import open_source
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.domain.dataset import Row
from tailorbird.domain.value import Digest
from tailorbird.text.normalisation import normalise

#: Where the id stands in a row as stored: behind the group, which is a digest, too. Keys are sorted.
_HEAD, _ID, _TEXT = b'{"group":"sha256:', slice(89, 160), b',"text":'


class StoredRows:
    """The rows of a snapshot as they are stored, sorted by id, each found by its place or its id."""

    def __init__(self, blob: bytes, lengths_M: NDArray[np.int32]) -> None:
        """``lengths_M`` are the bytes of each row, without the end of its line. Raises NotAnAppend where they are of other rows."""
        self.blob, self.lengths_M = blob, lengths_M
        self.starts_M = np.concatenate([[0], np.cumsum(lengths_M.astype(np.int64) + 1)])
        if self.starts_M[-1] != len(blob):
            raise NotAnAppend("the rows are others than those that were kept")

    def __len__(self) -> int:
        return len(self.starts_M) - 1

    def __getitem__(self, place: int) -> bytes:
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.blob[self.starts_M[place] : self.starts_M[place + 1] - 1]

    def place_of(self, id_: Digest) -> int:
        """How many rows stand before the row ``id_``, were it there."""
        return bisect_left(range(len(self)), id_, key=self._id)

    def row(self, place: int) -> Row:
        """The row at ``place``."""
        return Row.model_validate_json(self[place])

    def text(self, place: int) -> str:
        """The text of the row at ``place``. It is what stands last; inside of a text each quote has a backslash before it."""
        line = self[place]
        head, found, text = line.rpartition(_TEXT)
        if not found or not head.startswith(_HEAD):
            raise NotAnAppend("the rows are stored in another form")
        return str(json.loads(text[:-1]))

    def _id(self, place: int) -> str:
        start = self.starts_M[place]
        line = self.blob[start : start + _ID.stop]
        if not line.startswith(_HEAD):
            raise NotAnAppend("the rows are stored in another form")
        return line[_ID].decode()


def places_among(rows: StoredRows, new: Sequence[tuple[Digest, bytes]]) -> NDArray[np.intp]:
    """The rows in front of which ``new`` ones stand, ids and lines, sorted by id."""
    return np.array([rows.place_of(id_) for id_, _ in new], dtype=np.intp)


class MergedRows:
    """The rows of a snapshot with new ones among them, sorted by id. What was stored is not copied."""

    def __init__(self, rows: StoredRows, new: Sequence[tuple[Digest, bytes]], before: NDArray[np.intp]) -> None:
        """``new``: ids and lines, each in front of the stored row that ``before`` names; both sorted by id."""
        self._rows, self._new, self._before = rows, [line for _, line in new], before
        self._places = before + np.arange(len(before))
        lengths = np.array([len(line) for line in self._new], dtype=np.int32)
        self.lengths_M = np.insert(rows.lengths_M, before, lengths)

    def __len__(self) -> int:
        return len(self.lengths_M)

    def parts(self) -> list[bytes | memoryview]:
        """What is stored, piece by piece: each row with the end of its line."""
        view, parts, reached = memoryview(self._rows.blob), list[bytes | memoryview](), 0
        for start, line in zip(self._rows.starts_M[self._before].tolist(), self._new, strict=True):
            parts += [view[reached:start], line, b"\n"]
            reached = start
        return [*parts, view[reached:]]

    def row(self, place: int) -> Row:
        """The row at ``place``."""
        earlier = int(np.searchsorted(self._places, place))
        if earlier < len(self._places) and self._places[earlier] == place:
            return Row.model_validate_json(self._new[earlier])
        return self._rows.row(place - earlier)


class TextLookup:
    """Texts by their number in what is kept, without what most rows share."""

    def __init__(self, request: SnapshotRequest, privacy: Redaction, state: State, rows: StoredRows) -> None:
        self._request = request
        self._privacy = privacy
        self._state = state
        self._rows = rows
        self._item = np.full(len(state["told"]), -1, dtype=np.int32)
        self._item[state["text"][::-1]] = np.arange(len(state["text"]), dtype=np.int32)[::-1]
        placed = np.flatnonzero(state["row"] >= 0)
        self._item[state["text"][placed]] = placed
        self._read: dict[int, str] = {}
        self._shared = shared_of(state)

    def __call__(self, places: list[int]) -> list[str]:
        """The texts at ``places``. Raises NotAnAppend where one cannot be read again."""
        return [self._text(place) for place in places]

    def _text(self, place: int) -> str:
        if place not in self._read:
            text = self.of_item(int(self._item[place]))
            [self._read[place]] = self._shared.told([text], [normalise(text)])
        return self._read[place]

    def of_item(self, item: int) -> str:
        """The text of an item, as it stands in its row. Raises NotAnAppend where it cannot be read again."""
        row = int(self._state["row"][item])
        return self._rows.text(row) if row >= 0 else self._from_file(item)

    def _from_file(self, item: int) -> str:
        name = self._state.facts["files"][int(self._state["file"][item])][0]
        source = next((each for each in self._request.objective.data if each.path == name), None)
        if source is None:
            raise NotAnAppend("an earlier text cannot be read by its line")
        with open_source(source, self._request.folder) as file:
            if file.kind not in GROWING:
                raise NotAnAppend("an earlier text cannot be read by its line")
            record = read_single(replace(file, separator=source.separator), int(self._state["line"][item]))
        if not isinstance(record, Record):
            raise NotAnAppend("an earlier text cannot be read by its line")
        row = RowBuilder(self._request.objective, source, b"").row(file, record)
        return self._privacy.treat([row.text])[0].text
