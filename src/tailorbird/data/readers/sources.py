"""Data sources of an objective as rows, and single columns as texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tailorbird.data.readers.cells import UnusableRecord, text_cell
from tailorbird.data.readers.confined_reader import read_judgements, read_records
from tailorbird.data.readers.data_file import DataFile, Record, Records, is_blank
from tailorbird.data.readers.documents import columns_of_documents, read_documents
from tailorbird.data.readers.qrels import read_qrels
from tailorbird.data.readers.source_resolver import columns_of, open_path, open_source
from tailorbird.data.readers.source_rows import RowBuilder, SourceRow, SourceRows
from tailorbird.data.readers.text_files import FOLDER
from tailorbird.domain.curation import ProtectedSet
from tailorbird.domain.dataset import Document, Quarantined, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataOrigin, DataSource, Objective, Task, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.text.normalisation import nearest, normalise
from tailorbird.text.pseudonyms import pseudonym

#: A file of which more than this share is quarantined is refused as a whole: something is wrong with all of it.
MOST = 0.5
#: After so many quarantined records, and again after as many more, a file is asked whether it is one.
HOPELESS = 200_000


def read_sources(objective: Objective, folder: Path, secret: bytes = b"") -> SourceRows:
    """Reads every source. Raises DataInvalid when a file as a whole cannot be used: see ``locating`` and each format; also when a
    column is missing, when there are no rows, or when more than half of them are unusable. Raises Unavailable as ``open_source``.

    ``secret`` is the key of the pseudonyms that stand for subjects.
    """
    reading, rows = SourceReader(objective, folder, secret), list[SourceRow]()
    for file, making in reading.files():
        found = read_file(file, making, objective.task)
        reading.note(file, len(found.usable), found.unusable, found.columns)
        rows += found.usable
    return reading.sources(rows)


class SourceReader:
    """Opens the sources of an objective one after the other, documents and judgements first, and adds up what was read of them. Raises as
    ``read_sources``."""

    def __init__(self, objective: Objective, folder: Path, secret: bytes) -> None:
        self._objective, self._folder, self._secret = objective, folder, secret
        self._documents = read_documents(objective.documents, folder, partial(pseudonym, secret, objective.tenant))
        self._quarantined, self._read, self._files = self._documents.quarantined, self._documents.read, self._documents.files
        self._columns = self._documents.columns

    @property
    def documents(self) -> tuple[Document, ...]:
        """Documents, sorted by id."""
        return tuple(self._documents.documents[name] for name in sorted(self._documents.documents))

    def files(self) -> Iterator[tuple[DataFile, RowBuilder]]:
        """Each source's file, and what makes its rows. It is there until the next one is asked for."""
        for source in in_order(self._objective.data):
            making = RowBuilder(self._objective, source, self._secret, frozenset(self._documents.documents))
            if source.qrels:
                self._judge(making, source.qrels)
            with open_source(source, self._folder, split_column(self._objective)) as file:
                yield file, making
            self._files[file.name] = file.digest

    def note(self, file: DataFile, usable: int, unusable: Sequence[Quarantined], columns: Iterable[str]) -> None:
        """So many rows were read of ``file``, and some records that are none; it has these columns."""
        self._quarantined += unusable
        self._read[file.name] += usable + len(unusable)
        self._columns[file.name] = self._columns.get(file.name, frozenset()).union(columns)

    def sources(self, rows: Iterable[SourceRow]) -> SourceRows:
        """All that was read, with ``rows``."""
        refuse_if_most(self._read, self._quarantined)
        return SourceRows(
            tuple(rows), tuple(self._quarantined), dict(self._read), self._files, documents=self.documents, columns=self._columns
        )

    def _judge(self, making: RowBuilder, name: str) -> None:
        with open_path(name, (), self._folder) as judgements:
            making.judged, unusable, lines = read_qrels(judgements, read_judgements(judgements), self._documents.documents)
        self._quarantined += unusable
        self._read[name] += lines
        self._files[name] = judgements.digest


def split_column(objective: Objective) -> str:
    """The column that rows are split by; empty where there is none."""
    return objective.split.by if objective.split else ""


def in_order(sources: Sequence[DataSource]) -> list[DataSource]:
    """Sources in the order in which they are read: test, dev, train, and last those that are split here; these are the ones that grow."""
    return sorted(sources, key=lambda source: (Split.TEST, Split.DEV, Split.TRAIN, None).index(source.split))


def fingerprint_sources(objective: Objective, folder: Path, *, remote: bool = True) -> dict[str, Digest]:
    """The digest of each source's bytes, by its path in the objective: of a file, of all files of a folder, of a data set's rows.

    Without ``remote`` what lies at an address is left out, and nothing is fetched.

    Raises DataInvalid when a file is missing, empty or of another kind, Unavailable when it cannot be reached.
    """
    digests: dict[str, Digest] = {}
    wanted: dict[str, Collection[str]] = {source.path: columns_of(source, split_column(objective)).values() for source in objective.data}
    wanted |= {source.path: columns_of_documents(source).values() for source in objective.documents}
    wanted |= {source.qrels: () for source in objective.data if source.qrels}
    for name, columns in wanted.items():
        if not remote and "://" in name:
            continue
        with open_path(name, columns, folder) as file:
            digests[name] = file.digest
    return digests


def refuse_if_most(read: dict[str, int], quarantined: Iterable[Quarantined]) -> None:
    """Raises DataInvalid for the first file of which more than half of the records are quarantined."""
    by_file: dict[str, list[Quarantined]] = {}
    for entry in quarantined:
        by_file.setdefault(source_of(entry.file, read), []).append(entry)
    for name, entries in by_file.items():
        if len(entries) > MOST * read[name]:
            code, count = Counter(entry.code for entry in entries).most_common(1)[0]
            first = min((entry for entry in entries if entry.code == code), key=lambda entry: entry.line)
            message = f"{name}: {len(entries):,} of {read[name]:,} rows cannot be used"
            hint = f"the most frequent reason ({count:,} times, first on line {first.line}): {first.reason}"
            raise DataInvalid(message, hint, code="mostly_quarantined")


def source_of(file: str, sources: Iterable[str]) -> str:
    """The source that ``file`` is, or in whose folder it lies."""
    return file if file in sources else next(name for name in sources if file.startswith(f"{name.rstrip('/')}/"))


def read_file(file: DataFile, making: RowBuilder, task: Task, records: Records | None = None) -> FileRows:
    """A file's rows, and what cannot become one. The columns are known for sure only when all records have been seen.

    ``records`` are those of the file where somebody reads them already. Raises as ``read_sources``.
    """
    found = FileRows(file, making)
    found.read(records or read_records(file, found.wanted.values()))
    found.check(task)
    return found


class FileRows:
    """The rows of one file, and what cannot become one, from all of its records or a stretch of them."""

    def __init__(self, file: DataFile, making: RowBuilder) -> None:
        self.usable = list[SourceRow]()
        self.unusable = list[Quarantined]()
        self.columns = dict[str, None]()
        self.wanted = columns_of(making.source, making.split_by)
        self._file, self._making = file, making

    def read(self, records: Records) -> None:
        """Adds rows. Raises DataInvalid where ``making`` does, or where most of very many records are no rows."""
        for record in records:
            if isinstance(record, Quarantined):
                self._set_aside(record)
                continue
            self.columns |= dict.fromkeys(record.cells)
            try:
                self.usable.append(self._making.row(record.file or self._file, record))
            except UnusableRecord as problem:
                if is_blank(record, self._file.kind):
                    continue
                name = (record.file or self._file).name
                self._set_aside(Quarantined(file=name, line=record.line, code=problem.code, reason=problem.reason))

    def check(self, task: Task) -> None:
        """Raises DataInvalid where the whole file cannot be used: it has no rows, no answers, or lacks a column."""
        check_file(self._file, task, self.wanted, self.columns, records=len(self.usable) + len(self.unusable))

    def _set_aside(self, record: Quarantined) -> None:
        self.unusable.append(record)
        if len(self.unusable) % HOPELESS == 0:
            refuse_if_most({self._file.name: len(self.usable) + len(self.unusable)}, self.unusable)


def check_file(file: DataFile, task: Task, wanted: dict[str, str], columns: Iterable[str], *, records: int) -> None:
    """Raises DataInvalid where a file of so many ``records`` with these ``columns`` cannot be used."""
    _check_answers(file, task)
    if not records:
        raise DataInvalid(f"{file.name}: there are no rows", "give a file with at least a few rows for each label", code="file_empty")
    if named := tuple(columns):
        _check_columns(file, named, wanted)


def _check_answers(file: DataFile, task: Task) -> None:
    if file.kind == FOLDER and task.kind is not TaskKind.CLASSIFY:
        hint = "use kind: classify, where a sub-folder's name is the label, or a file with a column of answers"
        raise DataInvalid(f"{file.name}: a folder of text files has no answers", hint, code="column_missing")


def _check_columns(file: DataFile, columns: tuple[str, ...], wanted: dict[str, str]) -> None:
    for key, column in wanted.items():
        if column not in columns:
            message = f"{file.name}: there is no column {column!r}, which the objective names as `{key}`"
            raise DataInvalid(message, _column_hint(key, column, columns), code="column_missing")


def _column_hint(key: str, column: str, columns: tuple[str, ...]) -> str:
    """Long names are cut: where a file lacks its header, its first row stands in the header's place."""
    shown = [name if len(name) <= 40 else f"(a name of {len(name)} characters)" for name in columns[:30]]
    near = nearest(column, [name for name in columns if len(name) <= 40])
    listed = ", ".join(repr(name) for name in shown)
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return f"separate the cells by commas; the header reads as one column: {listed}"
    return f"set `{key}: {near}`? the file has: {listed}" if near else f"set `{key}` to one of: {listed}"


def read_texts(of: ProtectedSet, folder: Path) -> Iterator[str]:
    """Normalised texts; records without one are skipped. Raises DataInvalid when there are none, Unavailable as ``open_source``."""
    source = DataSource(path=of.path, text=of.text, label=of.text, source=DataOrigin(origin="protected", license="-"))
    seen = False
    with open_source(source, folder) as file:
        for record in read_records(file, (of.text,)):
            if isinstance(record, Record):
                try:
                    text = text_cell(record, "text", of.text)
                except UnusableRecord:
                    continue
                seen = True
                yield normalise(text)
    if not seen:
        hint = "set `text` of the protected set to the column with its texts"
        raise DataInvalid(f"{of.path}: there are no texts in the column {of.text!r}", hint, code="protected_empty")


def read_column(path: str, column: str, folder: Path) -> Iterator[str | None]:
    """The texts in one column of a file, as they stand there; None for a record without one (blank, or unreadable). Raises as
    ``read_texts``."""
    source = DataSource(path=path, text=column, label=column, source=DataOrigin(origin="texts", license="-"))
    seen = False
    with open_source(source, folder) as file:
        for record in read_records(file, (column,)):
            text = _text_of(record, column) if isinstance(record, Record) else None
            seen |= text is not None
            if text is not None or not (isinstance(record, Record) and is_blank(record, file.kind)):
                yield text
    if not seen:
        raise DataInvalid(f"{path}: there are no texts in the column {column!r}", "name the column with its texts", code="column_missing")


def _text_of(record: Record, column: str) -> str | None:
    try:
        return text_cell(record, "text", column)
    except UnusableRecord:
        return None
