"""The rows of a snapshot as stored, and new ones among them."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.incremental.state import NotAnAppend
from tailorbird.domain.dataset import Row
from tailorbird.domain.value import Digest

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
