"""What the cells of a column are, counted as they stream by.

In: cells. Out: what was seen of each column. Must not know: roles, files.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tailorbird.domain.inspection import ColumnSeen

#: Distinct values counted at most.
DISTINCT = 1000
#: A longer part of a cell is no label.
_LONGEST_PART = 80


@dataclass
class Tally:
    """A column while it streams by: no cell is kept, only hashes of the first distinct ones."""

    name: str
    filled: int = 0
    characters: int = 0
    longest: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: set[int] = field(default_factory=set)
    several: int = 0
    parts: set[int] = field(default_factory=set)
    longest_part: int = 0

    def add(self, cell: Any) -> None:
        """Counts one cell."""
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return
        length = len(cell) if isinstance(cell, str) else len(str(cell))
        self.filled += 1
        self.characters += length
        self.longest = max(self.longest, length)
        self.kinds[kind_of(cell)] += 1
        if len(self.values) < DISTINCT:
            self.values.add(hash(cell if isinstance(cell, str) else str(cell)))
        self._add_parts(parts_of(cell))

    def _add_parts(self, parts: list[str]) -> None:
        self.several += len(parts) > 1
        for part in parts:
            self.longest_part = max(self.longest_part, len(part))
            if len(self.parts) < DISTINCT:
                self.parts.add(hash(part))

    def seen(self) -> ColumnSeen:
        """What is known of the column by now. One kind in twenty cells may be another without making the column mixed."""
        kind, count = self.kinds.most_common(1)[0] if self.kinds else ("text", 0)
        return ColumnSeen(
            name=self.name[:200],
            kind=kind if count >= 0.95 * self.filled else "mixed",
            filled=self.filled,
            distinct=len(self.values),
            mean_length=round(self.characters / max(1, self.filled), 1),
            longest=self.longest,
            several=self.several,
            parts=len(self.parts),
            longest_part=self.longest_part,
        )


def kind_of(cell: Any) -> str:
    """What one cell is."""
    if isinstance(cell, str):
        return "turns" if cell.lstrip().startswith("[{") and '"role"' in cell[:2000] else "text"
    if isinstance(cell, bool | int | float):
        return "number"
    if isinstance(cell, dict):
        return "object"
    if isinstance(cell, list):
        return "turns" if cell and isinstance(cell[0], dict) and ({"role", "from"} & cell[0].keys()) else "list"
    return "text"


def parts_of(cell: Any) -> list[str]:
    """The labels that a cell may hold: the texts of a list, of a text that is a JSON list, or those between ``|``; none where it is no
    list of short texts."""
    if isinstance(cell, str):
        cell = _json_list(cell) if cell.lstrip().startswith('["') else cell.split("|")
    if not isinstance(cell, list) or not all(isinstance(part, str) and 0 < len(part.strip()) <= _LONGEST_PART for part in cell):
        return []
    return [part.strip() for part in cell]


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
