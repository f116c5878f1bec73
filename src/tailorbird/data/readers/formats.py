"""Formats of data files (CSV, TSV, JSON Lines, JSON, Parquet, relevance judgements), and the sandboxed process that reads them."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date, time, timedelta
from itertools import groupby, repeat
from pathlib import Path
from typing import Any, NoReturn

from tailorbird.data.readers.cells import UnusableRecord
from tailorbird.data.readers.data_file import FOLDER, DataFile, EveryColumn, Reader, Record, Records, length_of, read_folder, text_lines
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, start, stream

#: A record over more lines than this is looked at: are most of its lines records themselves?
SUSPICIOUS_LINES = 10

_MARK = re.compile(r'"?sep=[^\s"]"?[,;]*\s*', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n?|\n")


def read_csv(file: DataFile, _: Collection[str]) -> Records:
    """The records of a CSV or TSV file, as ``parse``."""
    return parse(file.name, text_lines(file, ""), file.separator or ("\t" if file.kind == ".tsv" else ","))


def parse(name: str, lines: Iterable[str], separator: str) -> Records:
    """The records in ``lines``, each with the line on which it starts (RFC 4180).

    Blank lines are no records, nor is a first line ``sep=;``, by which spreadsheets name the separator; one with another number of cells
    than the header is set aside, unless no cell says anything: it is blank then (``is_blank``); the header is, where it stands there again.

    Quotes are taken strictly: one that is never closed, or closed in the middle of a cell, would otherwise swallow rows in silence. Raises
    DataInvalid when a quote is broken (with the line where it opened) or when two columns share a name.
    """
    kept: list[str] = []  # lines of the record that is being read

    def noted() -> Iterator[str]:
        for number, line in enumerate(lines):
            kept.append("\n" if number == 0 and _MARK.fullmatch(line) else line)
            yield kept[-1]

    reader = csv.reader(noted(), delimiter=separator, strict=True)
    columns, start, width = list[str](), 1, 0
    try:
        for cells in reader:
            width = width or len(cells)
            if len(kept) > SUSPICIOUS_LINES and _swallowed(kept, width, separator):
                raise _broken_quote(name, start)
            if not columns:
                columns = cells
                if twice := [cell for cell, count in Counter(cells).items() if cell and count > 1]:
                    message = f"{name}:1: the column {twice[0][:40]!r} stands in the header twice"
                    raise DataInvalid(message, "rename one of the two", code="file_broken")
            elif cells and cells[-1] == columns[-1] and [cells[0].removeprefix("\ufeff"), *cells[1:]] == columns:
                reason = "the header stands here again: files were joined, each with its own"
                yield Quarantined(file=name, line=start, code="header_again", reason=reason)
            elif cells and (len(cells) == len(columns) or (len(cells) > len(columns) and not any(map(str.strip, cells)))):
                yield Record(start, dict(zip(columns, cells, strict=False)))
            elif cells:
                reason = f"{len(cells)} cells where the header has {len(columns)}"
                yield Quarantined(file=name, line=start, code="wrong_cell_count", reason=reason)
            start = reader.line_num + 1
            kept.clear()
    except csv.Error as error:
        # The first cell that is not well-formed: so many lines below the record's first one it begins.
        text, mark, position = "".join(kept), re.escape(separator), 0
        form = re.compile(rf'(?:"[^"]*(?:""[^"]*)*"|[^"{mark}\r\n][^{mark}\r\n]*|)(?:{mark}|\r\n?|\n|\Z)')
        while (cell := form.match(text, position)) and cell.end() > position:
            position = cell.end()
        raise _broken_quote(name, start + len(_LINE_END.findall(text, 0, position))) from error


def _swallowed(inner: list[str], width: int, separator: str) -> bool:
    """True when four in five lines inside one record have as many cells as the header: they are rows that a quote has swallowed."""
    if width < 2:
        return False
    alike = sum(len(next(csv.reader([line], delimiter=separator), [])) == width for line in inner)
    return alike >= 0.8 * len(inner)


def _broken_quote(name: str, line: int) -> DataInvalid:
    longest = f"a cell has at most {csv.field_size_limit():,} characters"
    hint = f'close the quote on that line; a quote inside a quoted cell is written twice: ""; {longest}'
    return DataInvalid(f"{name}:{line}: a quote opens here that is not closed as CSV asks", hint, code="file_broken")


def read_jsonl(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSONL file, as ``parse``."""
    return parse_jsonl(file.name, text_lines(file, "\n"))


def parse_jsonl(name: str, lines: Iterable[str]) -> Records:
    """The object on each line; a line that holds none is set aside. Blank lines are no records."""
    return (record_of(name, number, line) for number, line in enumerate(lines, start=1) if line.strip())


class _NotAnObject(ValueError):
    """JSON, but not one object with distinct keys. Its message holds no text of the line."""


def record_of(name: str, line: int, text: str) -> Record | Quarantined:
    """The record that ``text``, which starts on ``line``, holds."""
    try:
        plain = text.removeprefix("\ufeff")  # the mark of a file that was joined to others
        value = json.loads(plain, object_pairs_hook=_distinct, parse_constant=_refuse)
        if not isinstance(value, dict):
            raise _NotAnObject("there is JSON, but no object")
        return Record(line, value)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _NotAnObject) else "the line is not valid JSON"
        return Quarantined(file=name, line=line, code="broken_json", reason=reason)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotAnObject("a key stands in the object twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise _NotAnObject(f"{constant} is not a JSON value")


_NOT_LINE_END = re.compile(r"[^\n]")
_BLANK = re.compile(r"[ \t\r\n]*")

_ARRAY = (
    'write one list, [{"text": ..., "label": ...}, ...] (of a data frame: to_json(..., orient="records")), or one object a line in a file '
    "that ends in .jsonl"
)
#: Finds where an element ends; numbers stay texts, so that none is too long.
_ELEMENT = json.JSONDecoder(parse_int=str, parse_float=str)


def read_json(file: DataFile, _: Collection[str]) -> Records:
    """The records of a JSON file, as ``parse``; of a file that is one object, those of the one list of records in it, where it has one."""
    return parse_json(file.name, _records_alone("".join(text_lines(file, "\n"))))


#: Names by which objects hold records.
_LISTS = ("data", "rows", "records", "items", "examples", "instances", "entries", "samples", "results")


def _records_alone(text: str) -> str:
    """``text`` with blanks around the list of records in it, so that its lines stay where they are."""
    spans, position = list[tuple[int, int]](), _skip(text, 0)
    more = text[position : position + 1] == "{"
    try:
        while more:
            key, end = _ELEMENT.raw_decode(text, _skip(text, position + 1))
            colon = _skip(text, end)
            start = _skip(text, colon + 1)
            value, end = _ELEMENT.raw_decode(text, start)
            if text[colon : colon + 1] != ":" or not isinstance(key, str):
                return text
            if key.casefold() in _LISTS and isinstance(value, list) and value and isinstance(value[0], dict):
                spans.append((start, end))
            position = _skip(text, end)
            more = text[position : position + 1] == ","
    except (ValueError, RecursionError):
        return text
    closed = text[position : position + 1] == "}" and _skip(text, position + 1) == len(text)
    if len(spans) != 1 or not closed:
        return text
    ((start, end),) = spans
    return _NOT_LINE_END.sub(" ", text[:start]) + text[start:end] + _NOT_LINE_END.sub(" ", text[end:])


def parse_json(name: str, text: str) -> Records:
    """The objects of the array in ``text``; elements that are none are set aside. Raises DataInvalid where the array itself is broken."""
    start = _skip(text, 0)
    if text[start : start + 1] != "[":
        message = f"{name}:{_line_at(text, start)}: a JSON file holds one array of objects, and none begins here"
        raise DataInvalid(message, _ARRAY, code="broken_json")
    counted, line = 0, 1
    following = _skip(text, start + 1)
    closed = text[following : following + 1] == "]"
    while not closed:
        line, counted = line + text.count("\n", counted, following), following
        try:
            end = _ELEMENT.raw_decode(text, following)[1]
        except (ValueError, RecursionError) as error:
            raise _broken_array(name, error.lineno if isinstance(error, json.JSONDecodeError) else line, "not valid JSON") from error
        yield record_of(name, line, text[following:end])
        mark = _skip(text, end)
        closed = text[mark : mark + 1] == "]"
        if not closed and text[mark : mark + 1] != ",":
            raise _broken_array(name, _line_at(text, mark), "a comma or the end of the array is missing here")
        following = mark if closed else _skip(text, mark + 1)
    if _skip(text, following + 1) != len(text):
        raise _broken_array(name, _line_at(text, _skip(text, following + 1)), "something follows the array")


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _broken_array(name: str, line: int, what: str) -> DataInvalid:
    return DataInvalid(f"{name}:{line}: {what}", _ARRAY, code="broken_json")


#: Rows in memory at once.
BATCH = 1024

#: About how many bytes of cells.
BATCH_BYTES = 1 << 25
#: A file that holds more than so many times its own size, beyond so many bytes, is no data but a trap.
MOST_TIMES, MOST_BYTES = 100, 1_000_000_000

#: Numbers of a list of floating-point ones that inspection sees.
NUMBERS = 8

#: Types, by how their names begin, whose values are those of JSON.
_PLAIN = ("string", "large_string", "string_view", "int", "uint", "float", "double", "halffloat", "bool", "null")


def read_parquet(file: DataFile, wanted: Collection[str]) -> Records:
    """The rows of a Parquet file, or of each one in a folder; of its columns only the ``wanted`` ones are read, the others are None.

    Raises DataInvalid when the file is damaged or something else, or when far more comes out than lies in it: what repeats is stored once,
    however often it is read. Raises Unavailable when pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile, read_schema
    except ImportError as error:
        hint = 'pip install "pyarrow", or "tailorbird[data]"'
        raise Unavailable("reading Parquet files needs pyarrow", hint, code="package_missing") from error
    row = characters = 0
    parts = sorted(file.path.iterdir()) if file.path.is_dir() else [file.path]
    most = MOST_BYTES + MOST_TIMES * (sum(part.stat().st_size for part in parts) if file.packed is None else file.packed)
    expands = DataInvalid(
        f"{file.name}: a small file that expands to gigabytes",
        f"a file may hold {MOST_TIMES} times its size and {MOST_BYTES:,} bytes more; leave out rows that say the same",
        code="file_expands",
    )
    try:
        for part in parts:
            texts = [field.name for field in read_schema(part) if field.name in wanted and str(field.type).endswith("string")]
            with ParquetFile(part, read_dictionary=texts) as parquet:
                names, metadata = parquet.schema_arrow.names, parquet.metadata
                for name, count in Counter(names).items():
                    if count > 1:
                        message = f"{file.name}: there are two columns {name[:40]!r}"
                        raise DataInvalid(message, "rename one of the two", code="file_broken")
                inside, labels = [name for name in names if name in wanted], _label_names(parquet.schema_arrow.metadata)
                size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
                if size > most:
                    raise expands
                batch_size = max(1, min(BATCH, BATCH_BYTES * int(metadata.num_rows) // max(1, size)))
                for batch in parquet.iter_batches(batch_size=batch_size, columns=inside):
                    columns = map(_begun, batch.columns) if isinstance(wanted, EveryColumn) else batch.columns
                    read = dict(zip(batch.schema.names, map(_values, columns), strict=True))
                    read |= {name: [_named(value, labels[name]) for value in read[name]] for name in labels.keys() & read.keys()}
                    characters += sum(length_of(value) for column in read.values() for value in column)
                    if characters > most:
                        raise expands
                    for place in range(batch.num_rows):
                        row += 1
                        yield Record(row, dict.fromkeys(names) | {name: values[place] for name, values in read.items()})
    except (pyarrow.ArrowException, OSError) as error:
        hint = "write the file again: it is damaged, or not Parquet"
        raise DataInvalid(f"{file.name}: cannot be read as Parquet", hint, code="file_broken") from error


def _label_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of labels by column, where the library ``datasets`` stored labels as their numbers."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {column: [*map(str, each["names"])] for column, each in features.items() if each.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a label; -1 stands for one that is not known."""
    return value if not isinstance(value, int) else names[value] if 0 <= value < len(names) else None


def _begun(column: Any) -> Any:
    """Vectors are known by their first numbers, where nobody asks for them: whoever looks at a file walked each number of each."""
    from pyarrow import compute, types

    kind = column.type
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return compute.list_slice(column, 0, NUMBERS) if lists and types.is_floating(kind.value_type) else column


def _values(column: Any) -> list[Any]:
    """The cells; those of a dictionary are one object each, however often they stand in the column."""
    if hasattr(column, "dictionary"):
        values = _values(column.dictionary)
        return [None if place is None else values[place] for place in column.indices.to_pylist()]
    try:
        cells: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        cells = [_value(cell) for cell in column]
    return cells if str(column.type).startswith(_PLAIN) else [plain(cell) for cell in cells]


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return NO_TEXT
    except (ValueError, OverflowError):  # a time finer or farther than Python's: its number
        return str(cell.cast("int64"))


#: Stands for a cell whose bytes are no UTF-8: half of a character, which no text may hold.
NO_TEXT = "\ud800"


def plain(value: Any) -> Any:
    """``value`` with bytes, decimals, days and times as texts, durations in seconds, and maps as objects."""
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):  # a map is read as pairs
            return {str(key): plain(inner) for key, inner in value}
        return [plain(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time | date):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return NO_TEXT


#: The kind of a file of relevance judgements.
QRELS = "qrels"


def read_judgements(file: DataFile, _: Collection[str]) -> Records:
    """The cells of every judgement; the header, a first line whose grade is no number, is left out.

    A line is ``query document grade`` or, as TREC writes it, ``query iteration document grade``, with tabs, commas or blanks between.
    """
    separator: str | None = None
    for number, line in enumerate(text_lines(file, "\n"), start=1):
        if not line.strip():
            continue
        if number == 1:
            separator = next((mark for mark in "\t," if mark in line), None)
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=separator)) if separator else line.split()
        if number > 1 or _is_number(cells[-1]):
            yield Record(number, {"cells": [cell.strip() for cell in cells]})


def judgement_of(record: Record) -> tuple[str, str, int]:
    """Query, document and grade. Raises UnusableRecord."""
    cells = record.cells["cells"]
    if len(cells) not in (3, 4) or not all((cells[0], cells[-2])) or not _is_number(cells[-1]):
        raise UnusableRecord("broken_judgement", "a judgement is: query, document, grade")
    return cells[0], cells[-2], int(float(cells[-1]))


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == int(float(cell))
    except (ValueError, OverflowError):
        return False


#: Kind of file (its suffix) to what reads it.
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    FOLDER: read_folder,
}


#: Records and about how many characters go together.
_RECORDS, _CHARACTERS = 1024, 1 << 20
#: A record of more characters holds no row that a model could read.
LONGEST = 4_000_000


def records(given: dict[str, Any]) -> Iterator[Any]:
    """Yields all records of a file in batches, in the confined process; of the columns those in ``wanted``, or each where that is None.

    A record that is too long is set aside.
    """
    file, wanted = file_of(given), given["wanted"]
    columns: Collection[str] = EveryColumn() if wanted is None else wanted
    batch: list[Record | Quarantined] = []
    size = 0
    for record in (read_judgements if file.kind == QRELS else READERS[file.kind])(file, columns):
        long = 0 if isinstance(record, Quarantined) else sum(map(length_of, record.cells.values()))
        if long > LONGEST and isinstance(record, Record):
            name, reason = record.file.name if record.file else "", f"the record has more than {LONGEST:,} characters"
            batch.append(Quarantined(file=name, line=record.line, code="record_too_long", reason=reason))
        else:
            batch.append(record)
        size += min(long, LONGEST)
        if len(batch) >= _RECORDS or size >= _CHARACTERS:
            yield _encode_batch(batch)
            batch, size = [], 0
    if batch:
        yield _encode_batch(batch)


def file_of(given: dict[str, Any]) -> DataFile:
    """The file that the arguments of a job describe."""
    return DataFile(**given["file"] | {"path": Path(given["file"]["path"])})


def _encode_batch(batch: list[Record | Quarantined]) -> list[Any]:
    """A batch as JSON: a list for each record that was set aside, and an object, column by column (None: all cells are empty), for a run of
    records with one header."""
    entries: list[Any] = []
    for names, alike in groupby(batch, key=lambda record: None if isinstance(record, Quarantined) else (*record.cells,)):
        if names is None:
            entries += [[each.file, each.line, each.code, each.reason] for each in alike if isinstance(each, Quarantined)]
            continue
        run = [each for each in alike if isinstance(each, Record)]
        columns = zip(*(record.cells.values() for record in run), strict=True)
        files = [[file.name, str(file.path), file.digest, file.kind] for record in run if (file := record.file)]
        entries.append(
            {
                "names": names,
                "lines": [record.line for record in run],
                "columns": [None if column.count(None) == len(column) else column for column in columns],
                "files": files,
            }
        )
    return entries


def _decode_batch(entries: Iterable[Any], file: str) -> Records:
    """The records of a batch of the file called ``file``. Raises TypeError, ValueError, LookupError for what is no batch."""
    for entry in entries:
        if isinstance(entry, list):
            name, line, code, reason = entry
            yield Quarantined(file=name or file, line=line, code=code, reason=reason)
            continue
        names, lines = entry["names"], entry["lines"]
        columns = [repeat(None, len(lines)) if column is None else column for column in entry["columns"]]
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if columns else repeat(())
        files = [DataFile(name, Path(path), digest, kind) for name, path, digest, kind in entry["files"]] or repeat(None)
        for line, cells, of in zip(lines, rows, files, strict=False):
            yield Record(line, dict(zip(names, cells, strict=True)), of)


_PARSING = "tailorbird.data.readers.formats"
#: About what a row takes beside its characters.
_ROW = 128


def start_parser() -> None:
    """Has what parses files started, so that it is ready once the first file is read."""
    start(_PARSING)


def read_records(file: DataFile, wanted: Collection[str]) -> Records:
    """Reads a file as the reader of its kind does, in a confined process.

    Raises DataInvalid, also where reading takes more than it may (``parser_memory``, ``parser_processor``, ``parser_time``,
    ``file_expands``), and Unavailable.
    """
    job = job_for(file, f"{_PARSING}:records", wanted=None if isinstance(wanted, EveryColumn) else sorted(wanted))
    left = job.limits.output
    try:
        for batch in stream(job):
            for record in _decode_batch(batch, file.name):
                left -= _ROW
                if left < 0:
                    hint = "leave out rows that say the same, or write it without compression"
                    raise DataInvalid(f"{file.name}: a small file with millions of rows", hint, code="file_expands")
                yield record
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise DataInvalid(f"{file.name}: it cannot be read", "the file is damaged: write it again", code="file_broken") from error


def job_for(file: DataFile, target: str, **given: object) -> SandboxJob:
    """The job that has ``target`` look at ``file``, within limits that go by its size: of one that was compressed, what it may say goes by
    the size before, so that rows cannot multiply twice."""
    paths = file.path.rglob("*") if file.path.is_dir() else (file.path,)
    limits = SandboxLimits.for_bytes(sum(path.stat().st_size for path in paths if path.is_file()))
    if file.packed is not None:
        limits = replace(limits, output=SandboxLimits.for_bytes(file.packed).output)
    warm = (target.partition(":")[0], *(("pyarrow.parquet",) if file.kind == ".parquet" else ()))
    return SandboxJob(target, {"file": asdict(file) | {"path": str(file.path.absolute())}, **given}, limits, file.name, DataInvalid, warm)
