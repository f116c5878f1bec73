"""The rows of a snapshot as stored, and new ones among them.

In: the rows and the seal of before, new lines. Out: the rows and the seal of now. Must not know: how rows were found.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.appending.state import NotAnAppend
from tailorbird.data.provenance.sealing import MEMBER, arranged, contents, member
from tailorbird.domain.dataset import Row
from tailorbird.domain.value import Digest

#: Where the id stands in a row as stored: behind the group, which is a digest, too. Keys are sorted.
_HEAD, _ID = b'{"group":"sha256:', slice(89, 160)


class StoredRows:
    """The rows of a snapshot as they are stored, sorted by id, each found by its place or its id."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        ends = np.flatnonzero(np.frombuffer(blob, dtype=np.uint8) == ord("\n"))
        self.starts_M = np.concatenate([[0], ends + 1])

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

    def _id(self, place: int) -> str:
        start = self.starts_M[place]
        line = self.blob[start : start + _ID.stop]
        if not line.startswith(_HEAD):
            raise NotAnAppend("the rows are stored in another form")
        return line[_ID].decode()


def with_files(rows: StoredRows, changed: Mapping[Digest, Digest]) -> StoredRows:
    """The same rows, of files whose digests are others now: outside of texts, where each quote is written with a backslash."""
    blob = rows.blob
    for before, now in changed.items():
        blob = blob.replace(f'"file_digest":"{before}"'.encode(), f'"file_digest":"{now}"'.encode())
    moved = StoredRows.__new__(StoredRows)
    moved.blob, moved.starts_M = blob, rows.starts_M
    return moved


@dataclass(frozen=True)
class Inserted:
    """Rows with new ones among them: ``blob`` as stored, ``before`` the places in front of which new rows stand, ``seal`` with the place
    of each row there."""

    blob: bytes
    before: NDArray[np.intp]
    seal: bytes
    sealed_M: NDArray[np.int32]


def insert(
    rows: StoredRows,
    new: Sequence[tuple[Digest, bytes]],
    seal: bytes,
    sealed_M: NDArray[np.int32],
    rewritten_M: NDArray[np.intp],
    salt: bytes,
) -> Inserted:
    """``new`` are ids and lines, sorted by id; ``seal`` is that of before, ``sealed_M`` the place there of each row. The rows at
    ``rewritten_M`` are no longer what they were when they were sealed."""
    before = np.array([rows.place_of(id_) for id_, _ in new], dtype=np.intp)
    members_MB = np.frombuffer(seal, dtype=np.uint8).reshape(-1, MEMBER)[sealed_M]
    if len(rewritten_M):
        hashed = b"".join(contents(_lines(rows, rewritten_M), salt))
        members_MB[rewritten_M, MEMBER // 2 :] = np.frombuffer(hashed, dtype=np.uint8).reshape(-1, MEMBER // 2)
    added = np.frombuffer(b"".join(member(id_, line, salt) for id_, line in new), dtype=np.uint8).reshape(-1, MEMBER)
    sealed, places_M = arranged(np.insert(members_MB, before, added, axis=0))
    return Inserted(_with_lines(rows, before, new), before, sealed, places_M)


def _lines(rows: StoredRows, places_M: NDArray[np.intp]) -> Any:
    view = memoryview(rows.blob)
    starts, ends = rows.starts_M[places_M].tolist(), (rows.starts_M[places_M + 1] - 1).tolist()
    return (view[start:end] for start, end in zip(starts, ends, strict=True))


def _with_lines(rows: StoredRows, before: NDArray[np.intp], new: Sequence[tuple[Digest, bytes]]) -> bytes:
    view, parts, reached = memoryview(rows.blob), list[bytes | memoryview](), 0
    for place, (_, line) in zip(before.tolist(), new, strict=True):
        start = int(rows.starts_M[place])
        parts += [view[reached:start], line, b"\n"]
        reached = start
    return b"".join([*parts, view[reached:]])
