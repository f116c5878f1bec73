"""From a record to a row: cells by the roles that the objective gives to columns, and the terms on which the row may be used.

In: a record, a source of an objective. Out: a row, or why there is none, without its text. Must not know: files, formats, splits.
"""

from __future__ import annotations

import sys
from datetime import date

from tailorbird.data.reading.cells import Unusable, date_cell, labels_cell, name_cell, shift_cell, subject_cell, term_cell, text_cell
from tailorbird.data.reading.chat import answered
from tailorbird.data.reading.data_file import DataFile
from tailorbird.data.reading.qrels import Grades, grades_cell, target_of
from tailorbird.data.reading.record import Record
from tailorbird.data.reading.source_row import Place, SourceRow
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataSource, Objective, TaskKind
from tailorbird.foundations.licences import clash
from tailorbird.foundations.pseudonyms import pseudonym


class Making:
    """Makes the rows of one source. Rows of one file on the same terms share one ``Place``."""

    def __init__(self, objective: Objective, source: DataSource, secret: bytes, documents: frozenset[str] = frozenset()) -> None:
        """``documents`` are the ids of those that queries may be answered with. ``judged`` holds the grades by query, where a file has
        them; ``split_by`` is the column that all rows are split by."""
        self.source = source
        self.judged: dict[str, Grades] = {}
        self._documents = documents
        self._objective = objective
        self._secret = secret
        self._fixed = Split(source.split) if source.split else None
        self._pseudonyms: dict[str, str] = {}
        self._labelled = objective.task.kind is TaskKind.CLASSIFY
        self._targets: dict[str, str] = {}
        self.split_by = objective.split.by if objective.split else ""
        self._places: dict[tuple[object, ...], Place] = {}

    def row(self, file: DataFile, record: Record) -> SourceRow:
        """The row that ``record`` of ``file`` holds. Raises Unusable; DataInvalid where terms or labels make the whole file unusable."""
        text, target = self._content(file, record)
        return SourceRow(
            text=text,
            target=self._targets.setdefault(target, target) if self._labelled else target,
            subject=self._subject(record),
            fixed=self._fixed,
            place=self._place(file, record),
            line=record.line,
            shift=sys.intern(shift_cell(record, self.split_by)) if self.split_by else "",
        )

    def _content(self, file: DataFile, record: Record) -> tuple[str, str]:
        source, task = self.source, self._objective.task
        if source.messages:
            return answered(record, source.messages)
        text = text_cell(record, "text", source.text)
        if task.kind is TaskKind.RANK:
            return text, target_of(self._grades(record))
        if task.labels == "many":
            return text, labels_cell(record, file.name, source.label).strip()
        if task.kind is TaskKind.CLASSIFY:
            return text, name_cell(record, "label", source.label)
        return text, text_cell(record, "label", source.label)

    def _grades(self, record: Record) -> Grades:
        if not self.source.qrels:
            return grades_cell(record, self.source.label, self._documents)
        grades = self.judged.get(name_cell(record, "id", self.source.id))
        if not grades:
            raise Unusable("no_judgement", "no document that is there was judged relevant to the query")
        return grades

    def _subject(self, record: Record) -> str | None:
        name = subject_cell(record, self.source.subject)
        if name is None:
            return None
        known = self._pseudonyms.get(name)
        if known is None:
            known = self._pseudonyms[name] = pseudonym(self._secret, self._objective.tenant, name)
        return known

    def _place(self, file: DataFile, record: Record) -> Place:
        terms = self._terms(record)
        place = self._places.get((file.name, *terms))
        if place is None:
            self._check_licence(file, record, terms[0])
            place = Place(file.name, None if file.name == self.source.path else file.digest, self.source.source.origin, *terms)
            self._places[(file.name, *terms)] = place
        return place

    def _terms(self, record: Record) -> tuple[str, str, str, date | None]:
        """Licence, time of collection, consent and retention: the row's own, or else those of its source."""
        said, columns = self.source.source, self.source.terms
        return (
            term_cell(record, columns.license) or said.license,
            term_cell(record, columns.collected) or str(said.collected),
            term_cell(record, columns.consent) or said.consent,
            date_cell(record, columns.retain_until) or said.retain_until,
        )

    def _check_licence(self, file: DataFile, record: Record, licence: str) -> None:
        use = self._objective.business.use
        if why := clash(licence, use):
            message = f"{file.name}:{record.line}: the licence {licence[:60]} clashes with `business.use: {use}`: {why}"
            hint = "leave such rows out, agree on other terms with their owner, or set `business.use` to what the result is really for"
            raise DataInvalid(message, hint, code="license_clash")
