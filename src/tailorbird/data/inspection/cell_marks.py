"""Marks of a column's cells: numbers, codes, speakers, transcripts, labels with something between them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tailorbird.data.readers.turns import ROLES, is_turn

_NUMBER = re.compile(r"[-+]?[.,' ]*\d[\d.,' ]*(?:[eE][-+]?\d+)?\s?%?")
_SPACE = re.compile(r"\S\s+\S")
#: Who speaks, as columns and transcripts of customer service name them.
_PEOPLE = ("support", "operator")
SPEAKERS = frozenset({*ROLES, *_PEOPLE})
_SPOKEN = re.compile(rf"^[^\w\n]{{0,8}}(?:{'|'.join(sorted(SPEAKERS))})[^\w\n]{{0,4}}:", re.IGNORECASE | re.MULTILINE)
_NO_LABELS = frozenset({"nan", "none", "null", "n/a", "na", "#n/a", "-", "?"})
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false"})
#: What may stand between labels, beside ``|``; a longer cell is no list of labels.
BETWEEN, _LONGEST_CELL = ";,", 300
#: Cells that are looked at: what a column is, its first ones show.
MOST_CELLS = 5_000
#: Parts counted at most; characters of a cell that are looked at.
_PARTS, _START = 1000, 4000


@dataclass
class CellMarks:
    """Counts of a column's first cells by what they look like; of texts only hashes are kept, but for the few that stand for no label."""

    filled: int = 0
    numbers: int = 0
    flags: int = 0
    worded: int = 0
    speakers: int = 0
    transcripts: int = 0
    records: int = 0
    python_turns: int = 0
    nothings: set[str] = field(default_factory=set)
    several: Counter[str] = field(default_factory=Counter)
    parts: dict[str, set[int]] = field(default_factory=lambda: {mark: set() for mark in BETWEEN})

    def add(self, cell: Any) -> None:
        """Counts one cell that is filled."""
        if self.filled == MOST_CELLS:
            return
        self.filled += 1
        if not isinstance(cell, str):
            self.records += isinstance(cell, list) and len(cell) > 0 and isinstance(cell[0], dict) and not is_turn(cell[0])
            self.numbers += isinstance(cell, int | float) and not isinstance(cell, bool)
            self.flags += cell in (0, 1) if isinstance(cell, int | float) else 0
            return
        text = cell[:_START]
        plain = text.strip().casefold()
        self.numbers += _NUMBER.fullmatch(text.strip()) is not None
        self.flags += plain in _FLAGS
        self.worded += not text.isascii() or (_SPACE.search(text) is not None and any(map(str.isalpha, text)))
        self.speakers += plain in SPEAKERS
        self.transcripts += len(_SPOKEN.findall(text)) > 1
        self.python_turns += plain.startswith("[{'") and ("'role'" in plain or "'from'" in plain)
        if plain in _NO_LABELS:
            self.nothings.add(text.strip())
        self._add_parts(text)

    def _add_parts(self, text: str) -> None:
        for mark in BETWEEN if len(text) <= _LONGEST_CELL else ():
            parts = [part.strip() for part in text.split(mark)]
            self.several[mark] += len(parts) > 1
            if len(self.parts[mark]) < _PARTS:
                self.parts[mark].update(map(hash, parts))

    def share(self, count: int) -> float:
        """Which part of the filled cells ``count`` is."""
        return count / max(1, self.filled)
