"""The texts of some earlier rows, when they are needed: from the snapshot, or from their file where they have no place in it.

In: what is kept, rows as stored. Out: texts as they stand there, or as they are compared. Must not know: why they are asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tailorbird.data.appending.joining import shared_of
from tailorbird.data.appending.state import NotAnAppend, State
from tailorbird.data.appending.writing import StoredRows
from tailorbird.data.gathering import SnapshotRequest
from tailorbird.data.privacy import Privacy
from tailorbird.data.reading.confined import read_single
from tailorbird.data.reading.growing import GROWING
from tailorbird.data.reading.locating import located
from tailorbird.data.reading.making import Making
from tailorbird.data.reading.record import Record
from tailorbird.foundations.text import normalise


class EarlierTexts:
    """Texts by their number in what is kept, without what most rows share."""

    def __init__(self, request: SnapshotRequest, privacy: Privacy, state: State, rows: StoredRows) -> None:
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
        row = Making(self._request.objective, source, b"").row(file, record)
        return self._privacy.treat([row.text])[0].text
