"""The rows of a snapshot, each made when it is asked for: a million of them at once would fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from tailorbird.domain.dataset import Row


class LazyRows(Sequence[Row]):
    """Rows at ``places``, which ``row_at`` makes."""

    def __init__(self, places: range, row_at: Callable[[int], Row]) -> None:
        self._places = places
        self._row_at = row_at

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> LazyRows: ...
    def __getitem__(self, place: int | slice) -> Row | LazyRows:
        if isinstance(place, slice):
            return LazyRows(self._places[place], self._row_at)
        return self._row_at(self._places[place])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyRows) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(len(self._places))
