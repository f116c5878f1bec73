"""Reader of data files in a sandboxed parser process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
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
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, start, stream

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


_PARSING = "tailorbird.data.readers.confined_reader"
#: About what a row takes beside its characters.
_ROW = 128


def start_parser() -> None:
    """Has what parses files started, so that it is ready once the first file is read."""
    start(_PARSING)


def read_records(file: DataFile, wanted: Collection[str]) -> Records:
    """As the reader of the file's kind. Raises DataInvalid, also where reading takes more than it may (``parser_memory``,
    ``parser_processor``, ``parser_time``, ``file_expands``), and Unavailable."""
    columns = None if isinstance(wanted, EveryColumn) else sorted(wanted)
    return _read(file, "records", wanted=columns)


def read_judgements(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """As ``qrels.judgement_lines``. Raises as ``read_records``."""
    for lines in stream(job_for(file, f"{_PARSING}:judgements")):
        yield from ((int(line), [str(cell) for cell in cells]) for line, cells in lines)


def job_for(file: DataFile, target: str, **given: object) -> SandboxJob:
    """What has ``target`` look at ``file``, within limits that go by its size: of one that was compressed, what it may say goes by the size
    before, so that rows cannot multiply twice."""
    described = {
        "name": file.name,
        "path": str(file.path.absolute()),
        "digest": file.digest,
        "kind": file.kind,
        "encoding": file.encoding,
        "separator": file.separator,
        "packed": file.packed,
    }
    warm = (target.partition(":")[0], *(("pyarrow.parquet",) if file.kind == ".parquet" else ()))
    limits = SandboxLimits.for_bytes(_size(file))
    if file.packed is not None:
        limits = replace(limits, output=SandboxLimits.for_bytes(file.packed).output)
    return SandboxJob(target, {"file": described, **given}, limits, file.name, DataInvalid, warm)


def _size(file: DataFile) -> int:
    if file.path.is_dir():
        return sum(path.stat().st_size for path in file.path.rglob("*") if path.is_file())
    return file.path.stat().st_size


def _read(file: DataFile, what: str, **given: object) -> Records:
    job = job_for(file, f"{_PARSING}:{what}", **given)
    left = job.limits.output
    try:
        for batch in stream(job):
            for record in unpacked(batch, file.name):
                left -= _ROW
                if left < 0:
                    raise _expands(file)
                yield record
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise _damaged(file) from error


def _damaged(file: DataFile) -> DataInvalid:
    return DataInvalid(f"{file.name}: it cannot be read", "the file is damaged: write it again", code="file_broken")


def _expands(file: DataFile) -> DataInvalid:
    message = f"{file.name}: a small file with millions of rows"
    return DataInvalid(message, "leave out rows that say the same, or write it without compression", code="file_expands")
