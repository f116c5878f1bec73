"""Amendments applied to rows: erasures, ended retention, decisions of people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from tailorbird.data.readers import SourceRow, row_id
from tailorbird.data.readers.qrels import without_documents
from tailorbird.domain.curation import Decision, FixAction
from tailorbird.domain.dataset import Document, Quarantined
from tailorbird.domain.value import Digest

#: Reasons for which a row had to go. These are no faults of the file.
ERASED, RETENTION_OVER, DROPPED, ANSWER_GONE = "erased", "retention_over", "dropped", "answer_gone"


@dataclass(frozen=True)
class Amendments:
    """``secret`` keys pseudonyms and salts; ``erased`` are pseudonyms; ``decisions`` are by the id of the row before them; rows whose
    retention ended before ``today`` go (None: nobody asks)."""

    secret: bytes = b""
    erased: frozenset[str] = frozenset()
    decisions: Mapping[Digest, Decision] = field(default_factory=dict)
    today: date | None = None


def amend_rows(rows: Sequence[SourceRow], amendments: Amendments, gone: Collection[str] = ()) -> tuple[list[SourceRow], list[Quarantined]]:
    """Rows as the amendments leave them, and what had to go.

    Where targets name documents, ``gone`` are those that are no answer any more; a row without an answer goes, too.
    """
    kept: list[SourceRow] = []
    removed: list[Quarantined] = []
    for source in rows:
        row = replace(source, target=without_documents(source.target, gone)) if gone else source
        decision = amendments.decisions.get(row_id(row.text, row.target)) if amendments.decisions else None
        if reason := _must_go(row, decision, amendments):
            removed.append(reason)
        else:
            kept.append(_relabelled(row, decision))
    return kept, removed


def quarantine_unanswerable(file: str, line: int) -> Quarantined:
    """Quarantine entry of a query whose relevant documents were all removed."""
    return Quarantined(file=file, line=line, code=ANSWER_GONE, reason="every document that answers it had to go")


def amend_documents(documents: Iterable[Document], amendments: Amendments) -> tuple[list[Document], dict[str, Quarantined]]:
    """The documents that stay, and why others had to go, by id."""
    kept, gone = list[Document](), dict[str, Quarantined]()
    for document in documents:
        place = document.provenance
        if place is not None and place.subject in amendments.erased:
            gone[document.id] = Quarantined(file=place.file, line=place.line, code=ERASED, reason="its subject was erased")
        elif place is not None and (why := _expired(place.retain_until, amendments.today)):
            gone[document.id] = Quarantined(file=place.file, line=place.line, code=RETENTION_OVER, reason=why)
        else:
            kept.append(document)
    return kept, gone


def _expired(until: date | None, today: date | None) -> str:
    return f"it could be kept until {until.isoformat()}" if until and today and until < today else ""


def _must_go(row: SourceRow, decision: Decision | None, amendments: Amendments) -> Quarantined | None:
    if row.subject in amendments.erased:
        code, reason = ERASED, "its subject was erased"
    elif why := _expired(row.place.retain_until, amendments.today):
        code, reason = RETENTION_OVER, why
    elif not row.target:
        return quarantine_unanswerable(row.place.file, row.line)
    elif decision and decision.action is FixAction.DROP:
        code, reason = DROPPED, f"{decision.by} decided that it goes"
    else:
        return None
    return Quarantined(file=row.place.file, line=row.line, code=code, reason=reason)


def _relabelled(row: SourceRow, decision: Decision | None) -> SourceRow:
    if decision is None or decision.action is not FixAction.RELABEL:
        return row
    return replace(row, target=decision.label, transforms=(*row.transforms, f"relabel:{decision.by}"))
