"""The data files of an objective as rows.

In: an objective and the folder of its file. Out: rows with provenance, and every row that had to be set aside, with the reason. Must not
know: duplicates, splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tailorbird.data.csv_file import parse_csv
from tailorbird.data.jsonl_file import parse_jsonl
from tailorbird.data.table import Record, Table
from tailorbird.data.text_file import TextFile, read_text_file
from tailorbird.domain.dataset import Provenance, Quarantined, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataSource, Objective, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.foundations.text import nearest

#: A file of which more than this share is quarantined is refused as a whole: something is wrong with all of it.
MOST = 0.5


@dataclass(frozen=True)
class SourceRow:
    """A row as it stands in its file. ``target`` is the label without outer white space, or the answer as it is.

    ``fixed`` is the split that the objective gives to the whole source, ``subject`` the pseudonymous person it belongs to.
    """

    text: str
    target: str
    subject: str | None
    fixed: Split | None
    provenance: Provenance


@dataclass(frozen=True)
class SourceRows:
    """All rows of an objective in the order of its sources. ``read`` counts the records of each file: rows and quarantined ones."""

    rows: tuple[SourceRow, ...]
    quarantined: tuple[Quarantined, ...]
    read: dict[str, int]
    files: dict[str, Digest]


class _Unusable(Exception):
    """A record that cannot become a row: code and reason, without its text."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def read_sources(objective: Objective, folder: Path) -> SourceRows:
    """Reads every source. Raises DataInvalid when a file as a whole cannot be used: see ``text_file``, ``csv_file``; also when a
    column is missing, when there are no rows, or when more than half of them are unusable.
    """
    rows: list[SourceRow] = []
    quarantined: list[Quarantined] = []
    read: Counter[str] = Counter()
    files: dict[str, Digest] = {}
    for source in objective.data:
        file = read_text_file(source.path, folder)
        table = _table(file)
        _check_columns(file, table, source)
        usable, unusable = _rows(file, table, source, objective.task.kind)
        rows += usable
        quarantined += unusable
        read[file.name] += len(usable) + len(unusable)
        files[file.name] = file.digest
    refuse_if_most(read, quarantined)
    return SourceRows(tuple(rows), tuple(quarantined), dict(read), files)


def fingerprint_sources(objective: Objective, folder: Path) -> dict[str, Digest]:
    """The digest of each data file, by its path in the objective. Raises DataInvalid when a file is missing, empty or not UTF-8 text."""
    return {source.path: read_text_file(source.path, folder).digest for source in objective.data}


def refuse_if_most(read: dict[str, int], quarantined: Iterable[Quarantined]) -> None:
    """Raises DataInvalid for the first file of which more than half of the records are quarantined."""
    by_file: dict[str, list[Quarantined]] = {}
    for entry in quarantined:
        by_file.setdefault(entry.file, []).append(entry)
    for name, entries in by_file.items():
        if len(entries) > MOST * read[name]:
            code, count = Counter(entry.code for entry in entries).most_common(1)[0]
            first = min((entry for entry in entries if entry.code == code), key=lambda entry: entry.line)
            message = f"{name}: {len(entries):,} of {read[name]:,} rows cannot be used"
            hint = f"the most frequent reason ({count:,} times, first on line {first.line}): {first.reason}"
            raise DataInvalid(message, hint, code="mostly_quarantined")


def _table(file: TextFile) -> Table:
    return parse_csv(file) if file.name.lower().endswith(".csv") else parse_jsonl(file)


def _check_columns(file: TextFile, table: Table, source: DataSource) -> None:
    if not table.records and not table.broken:
        raise DataInvalid(f"{file.name}: a header, but no rows", "give a file with at least a few rows for each label", code="file_empty")
    wanted = {"text": source.text, "label": source.label} | ({"subject": source.subject} if source.subject else {})
    for key, column in wanted.items():
        if table.records and column not in table.columns:
            message = f"{file.name}: there is no column {column!r}, which the objective names as `{key}`"
            raise DataInvalid(message, _column_hint(key, column, table.columns), code="column_missing")


def _column_hint(key: str, column: str, columns: tuple[str, ...]) -> str:
    """Long names are cut: where a file lacks its header, its first row stands in the header's place."""
    shown = [name if len(name) <= 40 else f"(a name of {len(name)} characters)" for name in columns[:30]]
    near = nearest(column, [name for name in columns if len(name) <= 40])
    listed = ", ".join(repr(name) for name in shown)
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return f"separate the cells by commas; the header reads as one column: {listed}"
    return f"set `{key}: {near}`? the file has: {listed}" if near else f"set `{key}` to one of: {listed}"


def _rows(file: TextFile, table: Table, source: DataSource, kind: TaskKind) -> tuple[list[SourceRow], list[Quarantined]]:
    usable: list[SourceRow] = []
    unusable = list(table.broken)
    for record in table.records:
        try:
            usable.append(_row(file, record, source, kind))
        except _Unusable as problem:
            unusable.append(Quarantined(file=file.name, line=record.line, code=problem.code, reason=problem.reason))
    return usable, unusable


def _row(file: TextFile, record: Record, source: DataSource, kind: TaskKind) -> SourceRow:
    text = _cell(record, "text", source.text)
    target = _cell(record, "label", source.label)
    terms = source.source
    return SourceRow(
        text=text,
        target=target.strip() if kind is TaskKind.CLASSIFY else target,
        subject=_subject(record, source.subject),
        fixed=Split(source.split) if source.split else None,
        provenance=Provenance(
            file=file.name,
            file_digest=file.digest,
            line=record.line,
            origin=terms.origin,
            license=terms.license,
            collected=str(terms.collected),
            consent=terms.consent,
        ),
    )


def _cell(record: Record, role: str, column: str) -> str:
    value = record.cells.get(column)
    if value is None:
        raise _Unusable("missing_cell", f"there is no {role} (column {column!r})")
    if not isinstance(value, str):
        raise _Unusable("wrong_type", f"the {role} (column {column!r}) is not a text in quotes")
    if not value.strip():
        raise _Unusable(f"empty_{role}", f"the {role} (column {column!r}) is empty")
    if not _is_unicode(value):
        raise _Unusable("broken_text", f"the {role} (column {column!r}) holds half of a character (a lone surrogate)")
    return value


def _subject(record: Record, column: str | None) -> str | None:
    """An empty subject is none. Numbers are taken: subjects are often numbered."""
    value = record.cells.get(column) if column else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not _is_unicode(value):
        raise _Unusable("wrong_type", f"the subject (column {column!r}) is neither a text nor a whole number")
    return value.strip()


def _is_unicode(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
