"""Curation of rows, each by itself: read → privacy → amendments → quality → ids and sketches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tailorbird.data.curation import CurationTally, apply_privacy, apply_quality
from tailorbird.data.duplicates.exact import NamedRows
from tailorbird.data.duplicates.text_sketches import sketched
from tailorbird.data.parts.row_part import RowPart
from tailorbird.data.privacy import Redaction
from tailorbird.data.provenance import Amendments, amend_rows
from tailorbird.data.readers import SourceRow
from tailorbird.data.readers.confined_reader import read_stretch
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.sources import FileRows
from tailorbird.data.readers.stretches import Stretch
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.objective import Objective
from tailorbird.text.conversations import MARK


@dataclass(frozen=True)
class RowPolicy:
    """What decides about a row by itself. ``gone`` are documents that are no answer any more."""

    objective: Objective
    privacy: Redaction
    amendments: Amendments
    gone: Collection[str] = ()


def curated(rows: Sequence[SourceRow], policy: RowPolicy, tally: CurationTally) -> tuple[list[SourceRow], list[Quarantined]]:
    """Rows as policy and amendments leave them, and those that amendments took out.

    Decisions of people name rows as a snapshot shows them, so they come after personal data.
    """
    task = policy.objective.task
    kept = apply_privacy(rows, task, policy.privacy, tally)
    before = len(kept)
    kept, removed = amend_rows(kept, policy.amendments, policy.gone)
    tally.step("amendments", before, removed)
    return apply_quality(kept, task, policy.objective.curation.quality, tally), removed


def curated_stretch(file: DataFile, stretch: Stretch, making: RowBuilder, policy: RowPolicy) -> RowPart:
    """The rows of a stretch of a file. Raises DataInvalid as reading does. In a conversation what tells it from others is known only once
    all are read, so it has no sketches."""
    found = FileRows(file, making)
    found.read(read_stretch(file, stretch, found.wanted.values()))
    tally = CurationTally()
    rows, removed = curated(found.usable, policy, tally)
    named = NamedRows.of(rows)
    plain = not any(row.text.startswith(MARK) for row in rows)
    sketches = sketched(named.folded) if plain else None
    return RowPart(named, sketches, tally, removed, len(found.usable), found.unusable, list(found.columns))
