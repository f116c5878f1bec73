"""The texts of some earlier rows, when they are needed: from the snapshot, or from their file where they have no place in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tailorbird.data.incremental.index_merge import shared_of
from tailorbird.data.incremental.snapshot_rows import StoredRows
from tailorbird.data.incremental.state import NotAnAppend, State
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.privacy import Redaction
from tailorbird.data.readers.appended_reader import GROWING
from tailorbird.data.readers.confined_reader import read_single
from tailorbird.data.readers.record import Record
from tailorbird.data.readers.row_builder import RowBuilder
from tailorbird.data.readers.source_resolver import located
from tailorbird.text.normalisation import normalise


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
        with located(source, self._request.folder) as file:
            if file.kind not in GROWING:
                raise NotAnAppend("an earlier text cannot be read by its line")
            record = read_single(replace(file, separator=source.separator), int(self._state["line"][item]))
        if not isinstance(record, Record):
            raise NotAnAppend("an earlier text cannot be read by its line")
        row = RowBuilder(self._request.objective, source, b"").row(file, record)
        return self._privacy.treat([row.text])[0].text
