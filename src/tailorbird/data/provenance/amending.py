"""What happened to rows outside of their files: people were erased, retention ended, somebody decided about a row.

In: rows as read, amendments. Out: the rows to go on with, and those that had to go, with the reason. Must not know: who decided, tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from tailorbird.data.reading import SourceRow, SourceRows, row_id
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.fixing import Decision, FixAction
from tailorbird.domain.value import Digest

#: Reasons for which a row had to go. These are no faults of the file.
ERASED, RETENTION_OVER, DROPPED = "erased", "retention_over", "dropped"


@dataclass(frozen=True)
class Amendments:
    """``secret`` keys pseudonyms and salts; ``erased`` are pseudonyms; ``decisions`` are by the id of the row before them; rows whose
    retention ended before ``today`` go (None: nobody asks)."""

    secret: bytes = b""
    erased: frozenset[str] = frozenset()
    decisions: Mapping[Digest, Decision] = field(default_factory=dict)
    today: date | None = None


def amend(sources: SourceRows, amendments: Amendments) -> SourceRows:
    """``sources`` as the amendments leave them; what had to go is added to ``removed``."""
    kept: list[SourceRow] = []
    removed: list[Quarantined] = []
    for row in sources.rows:
        decision = amendments.decisions.get(row_id(row.text, row.target)) if amendments.decisions else None
        if reason := _must_go(row, decision, amendments):
            removed.append(reason)
        else:
            kept.append(_relabelled(row, decision))
    return replace(sources, rows=tuple(kept), removed=(*sources.removed, *removed))


def _must_go(row: SourceRow, decision: Decision | None, amendments: Amendments) -> Quarantined | None:
    until = row.place.retain_until
    if row.subject in amendments.erased:
        code, reason = ERASED, "its subject was erased"
    elif until and amendments.today and until < amendments.today:
        code, reason = RETENTION_OVER, f"it could be kept until {until.isoformat()}"
    elif decision and decision.action is FixAction.DROP:
        code, reason = DROPPED, f"{decision.by} decided that it goes"
    else:
        return None
    return Quarantined(file=row.place.file, line=row.line, code=code, reason=reason)


def _relabelled(row: SourceRow, decision: Decision | None) -> SourceRow:
    if decision is None or decision.action is not FixAction.RELABEL:
        return row
    return replace(row, target=decision.label, transforms=(*row.transforms, f"relabel:{decision.by}"))
