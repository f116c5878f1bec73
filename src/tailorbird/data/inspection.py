"""Inspection of a data file before an objective names it: its format, encoding, columns and their probable roles; and all its texts.

In: a file. Out: an inspection, for a person to confirm; the texts of a file whose columns nobody has named. Must not know: objectives,
snapshots.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tailorbird.data.columns import ColumnTally, guess_roles, remarks, task_of
from tailorbird.data.readers.data_file import GZIP, DataFile, EveryColumn, guess_encoding, is_blank, open_file, text_lines, unpacked
from tailorbird.data.readers.formats import READERS, file_of, job_for
from tailorbird.data.readers.source_resolver import open_path
from tailorbird.domain.dataset import Inspection, Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TO_FILL_IN
from tailorbird.system.sandbox import call, stream

#: What may stand between cells.
SEPARATORS = ",;\t|"
#: Lines by which the separator is told.
_LINES = 40
#: So many of them have the same number of cells.
_MOST_LINES = 0.8
#: Columns that are looked at.
MOST_COLUMNS = 10_000
#: Rows between two words about how far the pass is.
OFTEN = 100_000


def inspect_file(name: str, folder: Path, progress: Callable[[str], None]) -> Inspection:
    """Looks at the file, folder or address ``name`` (relative to ``folder``).

    Raises DataInvalid for what cannot be read at all (binary content), or not within its limits; Unavailable as when reading.
    """
    with open_path(name, folder) as found:
        job = job_for(found, f"{__name__}:look")
        told = call(job, lambda text: progress(str(text)[:200]))
    try:
        inspection = Inspection.model_validate(told)
    except ValueError as error:
        raise DataInvalid(f"{name}: it cannot be read", "the file is damaged: write it again", code="file_broken") from error
    return inspection.model_copy(update={"name": name, "digest": found.digest})


def look(given: dict[str, Any]) -> Iterator[Any]:
    """Looks at a file in a confined process: words about how far it is, and an inspection at last."""
    file, tallies, rows = as_it_looks(file_of(given)), dict[str, ColumnTally](), 0
    unusable, first = Counter[str](), dict[str, Quarantined]()
    for record in READERS[file.kind](file, EveryColumn()):
        if isinstance(record, Quarantined):
            unusable[record.code] += 1
            first.setdefault(record.code, record)
            continue
        for column in record.cells:
            if column not in tallies and len(tallies) == MOST_COLUMNS:
                message = f"{file.name}: more than {MOST_COLUMNS:,} columns"
                raise DataInvalid(message, "leave out columns that no row needs", code="file_broken")
            if column not in tallies:
                tallies[column] = ColumnTally(column)
        if not is_blank(record, file.kind):
            rows += 1
            for column, cell in record.cells.items():
                tallies[column].add(cell)
            if rows % OFTEN == 0:
                yield f"{rows:,} rows looked at"
    if unusable and not rows:
        code, count = unusable.most_common(1)[0]
        lead = f"the most frequent reason ({count:,} times, first on line {first[code].line}): {first[code].reason}"
        message = f"{file.name}: none of its {unusable.total():,} records can be read"
        raise DataInvalid(message, f"{lead}; {_ADVICE}")
    columns = tuple(tally.seen() for tally in tallies.values())
    guesses = guess_roles(columns, rows)
    notes: tuple[str, ...] = ()
    if file.kind in _TEXT and file.encoding != "utf-8":
        advice = f"look whether letters with accents read well, or save the file as UTF-8 ({file.encoding} now)"
        notes = (f"the encoding is a guess: {advice}",)
    inspection = Inspection(
        name=file.name,
        kind=file.kind.lstrip("."),
        digest=file.digest,
        encoding=file.encoding if file.kind in _TEXT else None,
        separator=file.separator,
        rows=rows,
        unusable=dict(unusable),
        columns=columns,
        guesses=guesses,
        task=task_of(guesses),
        proposal="",
        notes=(*notes, *remarks(tallies, guesses)),
    )
    # The source in YAML. What nobody can guess, whose data it is and on what terms, is left to be filled in.
    named = {guess.role: guess.column for guess in inspection.guesses}
    order = ("answer", "label", "relevant") if inspection.task == "generate" else ("label", "answer", "relevant")
    learned = [named[role] for role in order if role in named]
    named |= {"label": learned[0]} if learned else {}
    named |= {"split_column": named["split"]} if "split" in named else {}
    keys = ("messages", "tools", "text", "label", "subject", "split_column") if inspection.kind != "folder" else ()
    source = {"path": inspection.name, **inspection.form, **{key: named[key] for key in keys if key in named}}
    source |= {"terms": inspection.terms} if inspection.terms else {}
    yield inspection.model_copy(
        update={
            "proposal": yaml.safe_dump({"data": [source | {"source": dict(TO_FILL_IN)}]}, sort_keys=False, allow_unicode=True, width=120)
        }
    ).model_dump(mode="json")


#: Kinds of file that are text.
_TEXT = (".csv", ".tsv", ".json", ".jsonl")


def as_it_looks(file: DataFile) -> DataFile:
    """The file with the encoding and the separator that it seems to have. Raises DataInvalid: binary content."""
    if file.kind not in _TEXT:
        return file
    encoding = guess_encoding(file.path)
    if encoding is None:
        hint = "save it as UTF-8 text (of a spreadsheet: 'CSV UTF-8'); an archive is unpacked before"
        raise DataInvalid(f"{file.name}: binary content, or text in an encoding that cannot be told", hint, code="file_binary")
    guessed = replace(file, encoding=encoding)
    return replace(guessed, separator=_separator(guessed)) if file.kind in (".csv", ".tsv") else guessed


def _separator(file: DataFile) -> str:
    """The mark that cuts the first lines, or most of them, into as many cells, the more the better; the format's own where none does.

    Above the header may stand a title, below the rows a sum; and a mark between labels does not stand in a header.
    """
    with file.path.open(encoding=file.encoding, errors="replace", newline="") as stream:
        lines = [line for _, line in zip(range(_LINES), iter(lambda: stream.readline(1 << 16), ""), strict=False)]
    usual = "\t" if file.kind == ".tsv" else ","

    def fit(mark: str) -> tuple[bool, bool, int, bool]:
        widths = list[int]()
        with suppress(csv.Error):  # a cell is longer than any may be
            widths = [len(cells) for cells in csv.reader(lines, delimiter=mark) if cells]
        if len(lines) == _LINES:  # the last record may go on in lines that were not read
            widths = widths[:-1] or widths
        width, count = Counter(widths).most_common(1)[0] if widths else (0, 0)
        if width < 2 or count < _MOST_LINES * len(widths):
            return False, False, 0, mark == usual
        return count == len(widths), widths[0] == width, width, mark == usual

    return max(SEPARATORS, key=fit)


_ADVICE = (
    "the first line of a .csv file names the columns, one name a cell, without a title above it; a .jsonl file holds one object a line, "
    "without NaN (write null), and a list of objects goes into a .json file"
)


#: How a file of columns begins; what lies in it is compressed, and no line.
_PARQUET = b"PAR1"
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
#: What a file of Latin letters may be written in, beside Windows-1252: a search reads it in each.
_LATIN = ("cp1250", "iso8859-2", "cp1254", "cp1257")
#: Bytes by which a file is told, and those that say nothing.
_HEAD_BYTES, _BLANK = 4096, b" \t\r\n\0"
#: Texts, and about how many characters, that go together.
_AT_ONCE, _CHARACTERS = 1024, 1 << 20


def file_texts(path: Path, name: str) -> Iterator[str]:
    """Every text in the file at ``path``, some of them twice; ``name`` is for messages.

    A file is read as what it looks like, whatever it was called. A record that cannot be read is told by its line. Raises DataInvalid for
    what is no text and no table, and as ``read_sources`` for what passes the limits.
    """
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES)
    with unpacked(name, path) if start.startswith(GZIP) else nullcontext(path) as place:
        with place.open("rb") as file:
            start = file.read(_HEAD_BYTES)
        if len(start) < _HEAD_BYTES and not start.strip(_BLANK):
            return
        for number, kind in enumerate((".parquet",) if start.startswith(_PARQUET) else _text_kinds(start)):
            with open_file(name, place, kind) as found:
                try:
                    for batch in stream(job_for(found, f"{__name__}:look_for_texts", whole=number == 0)):
                        yield from map(str, batch)
                except (TypeError, ValueError) as error:
                    raise DataInvalid(f"{name}: it cannot be read", "the file is damaged: write it again", code="file_broken") from error


def _text_kinds(start: bytes) -> tuple[str, ...]:
    """What a text may be: a record a line, one list of records, or cells between separators. A line of column names may begin as JSON does
    (``[text],[label]``), and blanks say nothing."""
    begins = start.decode("utf-8-sig", errors="ignore").replace("\0", "").lstrip()
    opened, inside = begins[:1], begins[1:].lstrip()[:1]
    if opened == "{" and inside in ('"', "}"):
        return (".jsonl", ".json")
    if opened == "[" and inside in ("{", "]"):
        return (".json",)
    return (".jsonl", ".json", ".csv") if opened in ("", "{", "[") else (".csv",)


def look_for_texts(given: dict[str, Any]) -> Iterator[list[str]]:
    """Reads a file in a confined process; yields its texts in batches, with ``whole`` its lines, too. Raises DataInvalid.

    JSON's escapes are also written out: those of a broken record, or within a cell, stand as they were written.
    """
    batch, size = list[str](), 0
    for text in _of_file(as_it_looks(file_of(given)), whole=given["whole"]):
        batch.append(text)
        if "\\u" in text:
            plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
            batch.append(plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
        size += len(text)
        if len(batch) >= _AT_ONCE or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    yield batch


def _of_file(file: DataFile, *, whole: bool) -> Iterator[str]:
    """Where a text turns out to be none of its kind, its lines are all there is."""
    for encoding in (file.encoding, *(_LATIN if file.encoding == "cp1252" else ())):
        read = replace(file, encoding=encoding)
        try:
            if file.kind != ".parquet" and whole:
                yield from text_lines(read, "")
        except DataInvalid:
            if encoding == file.encoding:
                raise
            continue  # the code page lacks a byte of this file
        try:
            for record in READERS[file.kind](read, EveryColumn()):
                if not isinstance(record, Quarantined):
                    yield from _of_cells(record.cells)
        except DataInvalid:
            if file.kind == ".parquet":
                raise


def _of_cells(cells: Any) -> Iterator[str]:
    """Keys and values at any depth, one after another."""
    ahead = [cells]
    while ahead:
        cell = ahead.pop()
        if isinstance(cell, dict):
            ahead += [*cell.keys(), *cell.values()]
        elif isinstance(cell, list | tuple):
            ahead += cell
        elif cell is not None:
            yield str(cell)
