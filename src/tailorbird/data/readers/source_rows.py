"""Source rows with content-addressed ids, built from records by the roles that the objective gives to columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from hashlib import sha256

from tailorbird.data.readers.cells import (
    UnusableRecord,
    date_cell,
    flagged_cells,
    labels_cell,
    name_cell,
    shift_cell,
    split_cell,
    subject_cell,
    term_cell,
    text_cell,
    texts_cell,
)
from tailorbird.data.readers.data_file import DataFile, Record
from tailorbird.data.readers.qrels import Grades, grades_cell, target_of
from tailorbird.data.readers.turns import answered, reasoned
from tailorbird.domain.dataset import JOINED, Document, Provenance, Quarantined, SourceShape, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataSource, Objective, TaskKind
from tailorbird.domain.prompt import answer_of
from tailorbird.domain.value import Digest
from tailorbird.text import label_rules
from tailorbird.text.data_licences import clash
from tailorbird.text.normalisation import normalise
from tailorbird.text.pseudonyms import pseudonym


def row_id(text: str, target: str) -> Digest:
    """The digest of the normalised text and the target: exact duplicates share it."""
    return id_of(normalise(text), target)


def id_of(folded: str, target: str) -> Digest:
    """``row_id`` of a text that is normalised.

    It is ``digest_of({"target": ..., "text": ...})``, spelled out because a million rows ask for it: of texts alone, ``json`` writes the
    canonical form.
    """
    encoded = f'{{"target":{_text(target)},"text":{_text(folded)}}}'
    return "sha256:" + sha256(encoded.encode("utf-8", "surrogatepass")).hexdigest()


_text = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class SourcePlace:
    """What rows of one file share: where they are from, and on what terms. ``file_digest`` is set for the files of a folder."""

    file: str
    file_digest: Digest | None
    origin: str
    license: str
    collected: str
    consent: str
    retain_until: date | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Made once: a million rows ask for that of their one place."""
        return hash((self.file, self.file_digest, self.origin, self.license, self.collected, self.consent, self.retain_until))


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it stands in its file. ``target`` is the label without outer white space, or the answer as it is.

    ``fixed`` is the split that the objective gives to the whole source, ``subject`` the keyed pseudonym of the person it belongs to.
    ``shift`` is the cell that the objective splits by, ``shifted`` what follows from it (``splitting/shifting``).
    """

    text: str
    target: str
    subject: str | None
    fixed: Split | None
    place: SourcePlace
    line: int
    transforms: tuple[str, ...] = ()
    shift: str = ""
    shifted: bool = False

    @property
    def provenance(self) -> Provenance:
        """What the row will carry in a snapshot."""
        fields = {name: getattr(self.place, name) for name in SourcePlace.__dataclass_fields__}
        return Provenance(**fields, line=self.line, subject=self.subject, transforms=self.transforms)


#: Columns of one file of which the names are kept.
MOST_COLUMNS = 100


def shape_of(rows: int, columns: Iterable[str]) -> SourceShape:
    """A file of so many rows. Where its columns are very many they are content (keys of JSON objects), and none is kept."""
    distinct = tuple(sorted(set(columns)))
    return SourceShape(rows=rows, columns=distinct if len(distinct) <= MOST_COLUMNS else ())


@dataclass(frozen=True)
class SourceRows:
    """All rows of an objective in the order of its sources. ``read`` counts the records of each file: rows and quarantined ones;
    ``columns`` are those of each file.

    ``removed`` are rows that had to go for reasons outside of the files (``data/provenance``): no fault of any file.
    ``documents`` are sorted by id; ``removed_documents`` are those that had to go likewise.
    """

    rows: tuple[SourceRow, ...]
    quarantined: tuple[Quarantined, ...]
    read: dict[str, int]
    files: dict[str, Digest]
    removed: tuple[Quarantined, ...] = ()
    documents: tuple[Document, ...] = ()
    removed_documents: tuple[Quarantined, ...] = ()
    columns: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, SourceShape]:
        """Each file as it was read."""
        return {name: shape_of(rows, self.columns.get(name, ())) for name, rows in self.read.items()}

    @cached_property
    def places(self) -> frozenset[SourcePlace]:
        """What rows of one file have in common, on whatever terms."""
        return frozenset({id(row.place): row.place for row in self.rows}.values())


class RowBuilder:
    """Makes the rows of one source. Rows of one file on the same terms share one ``Place``."""

    def __init__(self, objective: Objective, source: DataSource, secret: bytes, documents: frozenset[str] = frozenset()) -> None:
        """``documents`` are the ids of those that queries may be answered with. ``judged`` holds the grades by query, where a file has
        them; ``unknown`` how many documents that are not there the query on a line names; ``split_by`` is the column that all rows are
        split by."""
        self.source = source
        self.judged: dict[str, Grades] = {}
        self.unknown: dict[int, int] = {}
        self._documents = documents
        self._objective = objective
        self._secret = secret
        self._fixed = Split(source.split) if source.split else None
        made = source.source.generated
        joined = (JOINED,) if len(source.texts) > 1 and not source.messages else ()
        self._transforms = (*((f"generated:{made.model} at {made.endpoint}",) if made else ()), *joined)
        self._pseudonyms: dict[str, str] = {}
        self._labelled = objective.task.kind is TaskKind.CLASSIFY
        self._targets: dict[str, str] = {}
        self.split_by = objective.split.by if objective.split else ""
        self._places: dict[tuple[object, ...], SourcePlace] = {}

    def row(self, file: DataFile, record: Record) -> SourceRow:
        """The row that ``record`` of ``file`` holds. Raises Unusable; DataInvalid where terms or labels make the whole file unusable."""
        text, target = self._content(file, record)
        return SourceRow(
            text=text,
            target=self._targets.setdefault(target, target) if self._labelled else target,
            subject=self._subject(record),
            fixed=self._split(record),
            place=self._place(file, record),
            line=record.line,
            transforms=self._transforms,
            shift=sys.intern(shift_cell(record, self.split_by)) if self.split_by else "",
        )

    def _content(self, file: DataFile, record: Record) -> tuple[str, str]:
        source, task = self.source, self._objective.task
        if source.messages:
            return answered(record, source.messages, source.tools, thinking=task.thinking)
        text = text_cell(record, "text", source.text) if isinstance(source.text, str) else texts_cell(record, source.text)
        if source.out_of_scope and task.out_of_scope:
            return text, task.out_of_scope.label
        if task.kind is TaskKind.RANK:
            return text, target_of(self._grades(record))
        if not isinstance(source.label, str):
            return text, self._flagged(flagged_cells(record, file.name, source.label))
        if task.labels == "many":
            return text, labels_cell(record, file.name, source.label).strip()
        if task.kind is TaskKind.CLASSIFY:
            return text, name_cell(record, "label", source.label)
        return text, self._answer(text_cell(record, "label", source.label, numbers=True))

    def _flagged(self, labels: tuple[str, ...]) -> str:
        """Raises UnusableRecord where there is not exactly one, and there must be."""
        if self._objective.task.labels == "many":
            return label_rules.join(labels)
        if len(labels) != 1:
            raise UnusableRecord("label_count", f"{len(labels)} of the columns of labels are 1, and an item has one label")
        return labels[0]

    def _split(self, record: Record) -> Split | None:
        """The split that the row keeps. One of train may be drawn for dev or test, where no row is of these. Raises UnusableRecord."""
        if self.source.split_column is None:
            return self._fixed
        given = split_cell(record, self.source.split_column)
        return None if given is Split.TRAIN else given

    def _answer(self, said: str) -> str:
        """Raises UnusableRecord where it is all reasoning."""
        answer = reasoned(said, thinking=self._objective.task.thinking)
        if not answer_of(answer).strip():
            raise UnusableRecord("empty_turn", "the answer has nothing behind its reasoning")
        return answer

    def _grades(self, record: Record) -> Grades:
        if not self.source.qrels:
            known, others = grades_cell(record, str(self.source.label), self._documents)
            if others:
                self.unknown[record.line] = others
            return known
        grades = self.judged.get(name_cell(record, "id", self.source.id))
        if not grades:
            raise UnusableRecord("no_judgement", "no document that is there was judged relevant to the query")
        return grades

    def _subject(self, record: Record) -> str | None:
        name = subject_cell(record, self.source.subject)
        if name is None:
            return None
        known = self._pseudonyms.get(name)
        if known is None:
            known = self._pseudonyms[name] = pseudonym(self._secret, self._objective.tenant, name)
        return known

    def _place(self, file: DataFile, record: Record) -> SourcePlace:
        terms = self._terms(record)
        place = self._places.get((file.name, *terms))
        if place is None:
            self._check_licence(file, record, terms[0])
            place = SourcePlace(file.name, None if file.name == self.source.path else file.digest, self.source.source.origin, *terms)
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
