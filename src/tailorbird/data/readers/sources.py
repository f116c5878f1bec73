"""Sources of an objective as rows with provenance and content-addressed ids, documents, and single columns as texts."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path

from tailorbird.data.pseudonyms import pseudonym
from tailorbird.data.readers.cells import (
    SPLIT_NAMES,
    Grades,
    UnusableRecord,
    answered,
    date_cell,
    flagged_cells,
    grades_cell,
    groups_cell,
    labels_cell,
    name_cell,
    plain_cell,
    reasoned,
    target_of,
    text_cell,
    texts_cell,
)
from tailorbird.data.readers.data_file import FOLDER, DataFile, Record, is_blank
from tailorbird.data.readers.formats import QRELS, judgement_of, read_records
from tailorbird.data.readers.source_resolver import open_path, open_source
from tailorbird.domain.dataset import EVERYONE, JOINED, Document, Provenance, Quarantined, SourceShape, Split, clash
from tailorbird.domain.errors import DataInvalid, InvalidInput
from tailorbird.domain.objective import DataSource, DocumentSource, Objective, TaskKind, TermColumns
from tailorbird.domain.prompt import answer_of
from tailorbird.domain.value import Digest
from tailorbird.text import label_rules
from tailorbird.text.words import nearest, normalise


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


#: Terms of a row that states none of its own.
_UNSTATED: tuple[str, str, str, date | None] = ("", "", "", None)

#: Columns of one file of which the names are kept.
MOST_COLUMNS = 100


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
        """Each file as it was read. Where its columns are very many they are content (keys of JSON objects), and none is kept."""
        columns = {name: tuple(sorted(self.columns.get(name, ()))) for name in self.read}
        kept = {name: each if len(each) <= MOST_COLUMNS else () for name, each in columns.items()}
        return {name: SourceShape(rows=rows, columns=kept[name]) for name, rows in self.read.items()}

    @cached_property
    def places(self) -> frozenset[SourcePlace]:
        """What rows of one file have in common, on whatever terms."""
        return frozenset({id(row.place): row.place for row in self.rows}.values())


class RowBuilder:
    """Makes the rows of one source. Rows of one file on the same terms share one ``SourcePlace``."""

    def __init__(self, objective: Objective, source: DataSource, secret: bytes, documents: Collection[str] = ()) -> None:
        """``documents`` are the ids of those that queries may be answered with. ``judged`` holds the grades by query, where a file has
        them; ``unknown`` counts the documents that are not there by the line that names them; ``split_by`` is the column that all rows are
        split by."""
        self.source, self._objective = source, objective
        self.judged: dict[str, Grades] = {}
        self.unknown: dict[int, int] = {}
        self._documents = documents
        self._fixed = Split(source.split) if source.split else None
        made = source.source.generated
        joined = (JOINED,) if len(source.texts) > 1 and not source.messages else ()
        self._transforms = (*((f"generated:{made.model} at {made.endpoint}",) if made else ()), *joined)
        self._pseudonym = cache(partial(pseudonym, secret, objective.tenant))
        self._labelled = objective.task.kind is TaskKind.CLASSIFY
        self._targets: dict[str, str] = {}
        self.split_by = objective.split.by if objective.split else ""
        self._has_terms = source.terms != TermColumns()
        self._places: dict[tuple[object, ...], SourcePlace] = {}

    def row(self, file: DataFile, record: Record) -> SourceRow:
        """The row that ``record`` of ``file`` holds. Raises Unusable; DataInvalid where terms or labels make the whole file unusable."""
        text, target = self._content(file, record)
        subject = plain_cell(record, "subject", self.source.subject)
        shift = plain_cell(record, "value that rows are split by", self.split_by)
        if self.split_by and not shift:
            raise UnusableRecord("missing_cell", f"there is nothing to split by (column {self.split_by!r})")
        return SourceRow(
            text=text,
            target=self._targets.setdefault(target, target) if self._labelled else target,
            subject=self._pseudonym(subject) if subject else None,
            fixed=self._split(record),
            place=self._place(file, record),
            line=record.line,
            transforms=self._transforms,
            shift=sys.intern(shift),
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
        if task.labels == "many" or not isinstance(source.label, str):
            column = source.label
            labels = labels_cell(record, column) if isinstance(column, str) else flagged_cells(record, column)
            return text, self._labels(file, record, labels)
        if task.kind is TaskKind.CLASSIFY:
            return text, name_cell(record, "label", source.label)
        answer = reasoned(text_cell(record, "label", source.label, numbers=True), thinking=task.thinking)
        if not answer_of(answer).strip():
            raise UnusableRecord("empty_turn", "the answer has nothing behind its reasoning")
        return text, answer

    def _labels(self, file: DataFile, record: Record, labels: list[str]) -> str:
        """Raises DataInvalid for a label that cannot be told from the text around it: that is no slip of one row."""
        try:
            joined = label_rules.join(labels)
        except InvalidInput as error:
            raise DataInvalid(f"{file.name}:{record.line}: {error.message}", error.hint, code=error.error_code) from error
        if self._objective.task.labels != "many" and len(labels) != 1:
            raise UnusableRecord("label_count", f"{len(labels)} of the columns of labels are 1, and an item has one label")
        return joined

    def _split(self, record: Record) -> Split | None:
        """The split that the row keeps. One of train may be drawn for dev or test, where no row is of these. Raises UnusableRecord for what
        names no split, so that no row is learned from by mistake."""
        column = self.source.split_column
        if column is None:
            return self._fixed
        given = SPLIT_NAMES.get(name_cell(record, "split", column).casefold())
        if given is None:
            raise UnusableRecord("split_unknown", f"the split (column {column!r}) is none of train, dev (validation) and test")
        return None if given is Split.TRAIN else given

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

    def _place(self, file: DataFile, record: Record) -> SourcePlace:
        """Where a row is from, and its terms: licence, time of collection, consent and retention, its own or else those of its source."""
        cells, columns = _UNSTATED, self.source.terms
        if self._has_terms:
            cells = (
                plain_cell(record, "terms", columns.license),
                plain_cell(record, "terms", columns.collected),
                plain_cell(record, "terms", columns.consent),
                date_cell(record, columns.retain_until),
            )
        place = self._places.get((file.name, cells))
        if place is None:
            stated, (license_, collected, consent, retain_until) = self.source.source, cells
            terms = (
                license_ or stated.license,
                collected or str(stated.collected),
                consent or stated.consent,
                retain_until or stated.retain_until,
            )
            use = self._objective.business.use
            if why := clash(terms[0], use):
                message = f"{file.name}:{record.line}: the licence {terms[0][:60]} clashes with `business.use: {use}`: {why}"
                hint = "leave such rows out, agree on other terms with their owner, or set `business.use` to what the result is really for"
                raise DataInvalid(message, hint, code="license_clash")
            place = SourcePlace(file.name, None if file.name == self.source.path else file.digest, stated.origin, *terms)
            self._places[(file.name, cells)] = place
        return place

    @property
    def columns(self) -> dict[str, str]:
        """The columns that the source names, by the key under which it names them; and the one that all rows are split by."""
        source, columns = self.source, dict[str, str | None]()
        if source.messages:
            columns = {"messages": source.messages, "tools": source.tools}
        else:
            if source.qrels:
                columns["id"] = source.id
            for key, named in (("text", source.text), ("label", source.label)):
                if key == "text" or not (source.qrels or source.out_of_scope):
                    columns |= {key: named} if isinstance(named, str) else {f"{key}.{at}": column for at, column in enumerate(named)}
        columns |= {"subject": source.subject, "split_column": source.split_column, "split.by": self.split_by}
        columns |= {f"terms.{key}": column for key, column in source.terms}
        return {key: column for key, column in columns.items() if column}


#: A file of which more than this share is quarantined is refused as a whole: something is wrong with all of it.
MOST = 0.5
#: After so many quarantined records, and again after as many more, a file is asked whether it is one.
HOPELESS = 200_000


def read_sources(objective: Objective, folder: Path, secret: bytes = b"") -> SourceRows:
    """Reads every source. Raises DataInvalid when a file as a whole cannot be used: see ``open_path`` and each format; also when a
    column is missing, when there are no rows, or when more than half of them are unusable. Raises Unavailable as ``open_path``.

    ``secret`` is the key of the pseudonyms that stand for subjects.
    """
    reading = SourceReader(objective, folder, secret)
    return reading.sources([row for rows, _ in reading.files() for row in rows])


class SourceReader:
    """Opens the sources of an objective one after the other, documents first, and adds up what was read of them. Raises as
    ``read_sources``."""

    def __init__(self, objective: Objective, folder: Path, secret: bytes) -> None:
        self._objective, self._folder, self._secret = objective, folder, secret
        self._quarantined, self._read = list[Quarantined](), Counter[str]()
        self._files, self._columns = dict[str, Digest](), dict[str, frozenset[str]]()
        self._documents: dict[str, Document] = {}
        for source in objective.documents:
            wanted = {key: column for key in ("id", "text", "title", "access", "subject") if (column := getattr(source, key))}
            with open_path(source.path, folder) as file:
                columns = self._each(file, wanted.values(), partial(self._add_document, file, source))
                if file.kind != FOLDER:
                    _check_columns(file, {f"documents.{key}": column for key, column in wanted.items()}, columns)

    @property
    def documents(self) -> tuple[Document, ...]:
        """Documents, sorted by id."""
        return tuple(self._documents[name] for name in sorted(self._documents))

    def files(self) -> Iterator[tuple[list[SourceRow], str]]:
        """The rows of each source: of test, dev, train, and last what is split here, since that grows; with a warning, or none."""
        order = (Split.TEST, Split.DEV, Split.TRAIN, None)
        for source in sorted(self._objective.data, key=lambda source: order.index(source.split)):
            builder = RowBuilder(self._objective, source, self._secret, self._documents.keys())
            if source.qrels:
                with open_path(source.qrels, self._folder) as file:
                    self._each(replace(file, kind=QRELS), (), partial(self._judge, builder))
            with open_source(source, self._folder) as file:
                rows = self._rows(file, builder)
            warning = ""
            if builder.unknown:  # what is measured is as if nobody had judged them
                warning = (
                    f"warning: {sum(builder.unknown.values()):,} relevant documents that {len(builder.unknown):,} queries of {file.name} "
                    f"name (first on line {min(builder.unknown)}) are not among the documents, and are left out: recall and ndcg do not "
                    "miss them"
                )
            yield rows, warning

    def sources(self, rows: Iterable[SourceRow]) -> SourceRows:
        """All that was read, with ``rows``."""
        refuse_if_most(self._read, self._quarantined)
        return SourceRows(
            tuple(rows), tuple(self._quarantined), dict(self._read), self._files, documents=self.documents, columns=self._columns
        )

    def _each(self, file: DataFile, wanted: Collection[str], use: Callable[[Record], None]) -> dict[str, None]:
        """Has ``use`` take each record, sets aside those that it cannot, and returns the columns, which are known for sure only when all
        records have been seen. Raises DataInvalid also where most of very many records cannot be used."""
        columns, unusable, usable = dict[str, None](), list[Quarantined](), 0
        for record in read_records(file, wanted):
            if isinstance(record, Quarantined):
                unusable.append(record)
            else:
                columns |= dict.fromkeys(record.cells)
                try:
                    use(record)
                    usable += 1
                    continue
                except UnusableRecord as problem:
                    if is_blank(record, file.kind):
                        continue
                    name = (record.file or file).name
                    unusable.append(Quarantined(file=name, line=record.line, code=problem.code, reason=problem.reason))
            if len(unusable) % HOPELESS == 0:
                refuse_if_most({file.name: usable + len(unusable)}, unusable)
        self._quarantined += unusable
        self._read[file.name] += usable + len(unusable)
        self._files[file.name] = file.digest
        if file.kind != QRELS:
            self._columns[file.name] = self._columns.get(file.name, frozenset()).union(columns)
        return columns

    def _rows(self, file: DataFile, builder: RowBuilder) -> list[SourceRow]:
        rows, before = list[SourceRow](), self._read[file.name]
        columns = self._each(file, builder.columns.values(), lambda record: rows.append(builder.row(record.file or file, record)))
        if file.kind == FOLDER and self._objective.task.kind is not TaskKind.CLASSIFY:
            hint = "use kind: classify, where a sub-folder's name is the label, or a file with a column of answers"
            raise DataInvalid(f"{file.name}: a folder of text files has no answers", hint, code="column_missing")
        if self._read[file.name] == before:
            raise DataInvalid(f"{file.name}: there are no rows", "give a file with at least a few rows for each label")
        _check_columns(file, builder.columns, columns)
        return rows

    def _add_document(self, file: DataFile, source: DocumentSource, record: Record) -> None:
        """In a folder, a document's id is its path, everybody may read it, and it is about nobody."""
        own, stated = record.file, source.source
        subject = plain_cell(record, "subject", source.subject) if own is None else ""
        provenance = Provenance(
            file=(own or file).name,
            file_digest=own.digest if own else None,
            line=record.line,
            origin=stated.origin,
            license=stated.license,
            collected=str(stated.collected),
            consent=stated.consent,
            subject=pseudonym(self._secret, self._objective.tenant, subject) if subject else None,
            retain_until=stated.retain_until,
        )
        if own is not None:
            inside = own.name.removeprefix(f"{file.name.rstrip('/')}/")
            document = Document(id=inside, text=text_cell(record, "text", "text"), provenance=provenance)
        else:
            document = Document(
                id=name_cell(record, "id", source.id),
                title=text_cell(record, "title", source.title) if source.title and record.cells.get(source.title) else "",
                text=text_cell(record, "text", source.text),
                access=groups_cell(record, source.access) if source.access else (EVERYONE,),
                provenance=provenance,
            )
        known = self._documents.setdefault(document.id, document)
        # A file of queries with their passages repeats passages.
        if (known.title, known.text, known.access) != (document.title, document.text, document.access):
            raise UnusableRecord("id_twice", "another document has this id")

    def _judge(self, builder: RowBuilder, record: Record) -> None:
        """Takes a relevance judgement: a grade of zero or less says that a document is not relevant, and is left out."""
        query, document, grade = judgement_of(record)
        if document not in self._documents:
            raise UnusableRecord("unknown_document", "it names a document that is not there")
        if grade > 0:
            builder.judged.setdefault(query, {})[document] = grade


def fingerprint_sources(objective: Objective, folder: Path, *, remote: bool = True) -> dict[str, Digest]:
    """The digest of each source's bytes, by its path in the objective: of a file, of all files of a folder, of a data set's rows.

    Without ``remote`` what lies at an address is left out, and nothing is fetched.

    Raises DataInvalid when a file is missing, empty or of another kind, Unavailable when it cannot be reached.
    """
    digests: dict[str, Digest] = {}
    names = [place for source in objective.data for place in (source.path, source.qrels) if place]
    for name in dict.fromkeys([*names, *(source.path for source in objective.documents)]):
        if remote or "://" not in name:
            with open_path(name, folder) as file:
                digests[name] = file.digest
    return digests


def refuse_if_most(read: Mapping[str, int], quarantined: Iterable[Quarantined]) -> None:
    """Raises DataInvalid for the first file of which more than half of the records are quarantined."""
    by_file: dict[str, list[Quarantined]] = {}
    for entry in quarantined:
        name = entry.file if entry.file in read else next(name for name in read if entry.file.startswith(f"{name.rstrip('/')}/"))
        by_file.setdefault(name, []).append(entry)
    for name, entries in by_file.items():
        if len(entries) > MOST * read[name]:
            code, count = Counter(entry.code for entry in entries).most_common(1)[0]
            first = min((entry for entry in entries if entry.code == code), key=lambda entry: entry.line)
            message = f"{name}: {len(entries):,} of {read[name]:,} rows cannot be used"
            hint = f"the most frequent reason ({count:,} times, first on line {first.line}): {first.reason}"
            raise DataInvalid(message, hint)


def _check_columns(file: DataFile, wanted: Mapping[str, str], columns: Collection[str]) -> None:
    """Raises DataInvalid for a column that an objective names (by its key) and that is not there. Long names are not shown: where a file
    lacks its header, its first row stands in the header's place."""
    for key, column in wanted.items() if columns else ():
        if column not in columns:
            shown = [name for name in columns if len(name) <= 40][:30]
            near = f"set `{key}: {near}`? " if (near := nearest(column, shown)) else ""
            hint = f"{near}the file has: {', '.join(map(repr, shown))}"
            if len(columns) == 1:
                hint += "; a header that reads as one column is separated otherwise: name the `separator`"
            message = f"{file.name}: there is no column {column!r}, which the objective names as `{key}`"
            raise DataInvalid(message, hint, code="column_missing")


def read_column(path: str, column: str, folder: Path, code: str = "column_missing") -> Iterator[str | None]:
    """The texts in one column of a file, as they stand there; None for a record without one (blank, or unreadable). Raises DataInvalid
    when there are none, Unavailable as ``open_path``."""
    seen = False
    with open_path(path, folder) as file:
        for record in read_records(file, (column,)):
            text = None
            if isinstance(record, Record):
                with suppress(UnusableRecord):
                    text = text_cell(record, "text", column)
            seen |= text is not None
            if text is not None or not (isinstance(record, Record) and is_blank(record, file.kind)):
                yield text
    if not seen:
        raise DataInvalid(f"{path}: there are no texts in the column {column!r}", "name the column with its texts", code=code)
