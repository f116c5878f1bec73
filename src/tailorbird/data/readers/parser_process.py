"""Parser functions of the sandboxed process: the reader of each file format, and records batched as JSON on their way out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import date, datetime
from itertools import groupby, repeat
from pathlib import Path
from typing import Any

from tailorbird.data.readers.csv_file import read_csv, read_tsv
from tailorbird.data.readers.data_file import DataFile, EveryColumn, Reader, Record, Records, length_of
from tailorbird.data.readers.json_files import read_json, read_jsonl
from tailorbird.data.readers.parquet_file import read_parquet
from tailorbird.data.readers.qrels import judgement_lines
from tailorbird.data.readers.text_files import FOLDER, read_folder
from tailorbird.domain.dataset import Quarantined

#: Kind of file (its suffix) to what reads it.
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    FOLDER: read_folder,
}


#: Records and about how many characters go together.
_RECORDS, _CHARACTERS = 1024, 1 << 20
#: A record of more characters holds no row that a model could read.
LONGEST = 4_000_000


def packed(records: Records) -> Iterator[list[Any]]:
    """``records`` as batches. One that is too long is set aside."""
    batch: list[Record | Quarantined] = []
    size = 0
    for record in records:
        long = 0 if isinstance(record, Quarantined) else sum(map(length_of, record.cells.values()))
        batch.append(record if long <= LONGEST else _too_long(record))
        size += min(long, LONGEST)
        if len(batch) >= _RECORDS or size >= _CHARACTERS:
            yield _batch(batch)
            batch, size = [], 0
    if batch:
        yield _batch(batch)


def _too_long(record: Record | Quarantined) -> Quarantined:
    file = record.file if isinstance(record, Record) else None
    reason = f"the record has more than {LONGEST:,} characters"
    return Quarantined(file=file.name if file else "", line=record.line, code="record_too_long", reason=reason)


def _batch(batch: list[Record | Quarantined]) -> list[Any]:
    entries: list[Any] = []
    for names, alike in groupby(batch, key=lambda record: None if isinstance(record, Quarantined) else (*record.cells,)):
        run = list(alike)
        if names is None:
            entries += [[each.file, each.line, each.code, each.reason] for each in run if isinstance(each, Quarantined)]
        else:
            entries.append(_run(names, [each for each in run if isinstance(each, Record)]))
    return entries


def _run(names: tuple[str, ...], records: list[Record]) -> dict[str, Any]:
    columns = [list(column) for column in zip(*(record.cells.values() for record in records), strict=True)] or [[] for _ in names]
    dates = [[at, place, _take_date(column, place)] for at, column in enumerate(columns) for place in _dates(column)]
    return {
        "names": names,
        "lines": [record.line for record in records],
        "columns": [_column(column) for column in columns],
        "dates": dates,
        "files": _files(records),
    }


def _dates(column: list[Any]) -> list[int]:
    return [place for place, cell in enumerate(column) if isinstance(cell, date)]


def _take_date(column: list[Any], place: int) -> str:
    taken: str = column[place].isoformat()
    column[place] = None
    return taken


def _column(column: list[Any]) -> Any:
    """A column in which the same texts stand again and again (a dictionary in Parquet) names each once."""
    distinct = {id(cell): cell for cell in column}
    if len(distinct) == 1 and None in distinct.values():
        return None
    if 2 * len(distinct) > len(column):
        return column
    places = {key: place for place, key in enumerate(distinct)}
    return {"of": list(distinct.values()), "at": [places[id(cell)] for cell in column]}


def _files(records: list[Record]) -> list[list[str]] | None:
    """Where each record is a file of its own: all that is known of it."""
    files = [record.file for record in records if record.file is not None]
    return [[file.name, str(file.path), file.digest, file.kind] for file in files] if files else None


def unpacked(entries: Iterable[Any], file: str) -> Records:
    """The records of a batch of the file called ``file``. Raises TypeError, ValueError, LookupError for what is no batch."""
    for entry in entries:
        if isinstance(entry, list):
            name, line, code, reason = entry
            yield Quarantined(file=name or file, line=line, code=code, reason=reason)
        else:
            yield from _records(entry)


def _records(run: dict[str, Any]) -> Iterator[Record]:
    names, lines = run["names"], run["lines"]
    columns = [_cells(column, len(lines)) for column in run["columns"]]
    for at, place, stated in run["dates"]:
        columns[at][place] = datetime.fromisoformat(stated) if len(stated) > 10 else date.fromisoformat(stated)
    rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else repeat(())
    files = [DataFile(name, Path(path), digest, kind) for name, path, digest, kind in run["files"]] if run["files"] else repeat(None)
    for line, cells, file in zip(lines, rows, files, strict=False):
        yield Record(line, dict(zip(names, cells, strict=True)), file)


def _cells(column: Any, size: int) -> list[Any]:
    if column is None:
        return [None] * size
    return [column["of"][place] for place in column["at"]] if isinstance(column, dict) else column


#: Lines of judgements that go together.
_LINES = 1024


def file_of(given: dict[str, Any]) -> DataFile:
    """The file that ``given`` describes."""
    return DataFile(**given["file"] | {"path": Path(given["file"]["path"])})


def records(given: dict[str, Any]) -> Iterator[Any]:
    """All records; of the columns those in ``wanted``, or each where that is None."""
    file, wanted = file_of(given), given["wanted"]
    columns: Collection[str] = EveryColumn() if wanted is None else wanted
    yield from packed(READERS[file.kind](file, columns))


def judgements(given: dict[str, Any]) -> Iterator[Any]:
    """Lines of judgements with their cells."""
    lines: list[tuple[int, list[str]]] = []
    for each in judgement_lines(file_of(given)):
        lines.append(each)
        if len(lines) == _LINES:
            yield lines
            lines = []
    yield lines
