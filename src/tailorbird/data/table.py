"""What CSV and JSONL files have in common once parsed: named cells, each record with its line.

In: nothing. Out: the values that both parsers fill. Must not know: formats, what the columns mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailorbird.domain.dataset import Quarantined


@dataclass(frozen=True)
class Record:
    """One record and the 1-based line on which it starts."""

    line: int
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A parsed file. ``broken`` are records that could not be parsed; none is in ``records``."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]
    broken: tuple[Quarantined, ...]
