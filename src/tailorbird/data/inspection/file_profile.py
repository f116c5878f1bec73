"""Profile of a data file in one pass: format, encoding, columns and their probable roles."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tailorbird.data.inspection.columns import ColumnTally, guess_roles, task_of
from tailorbird.data.inspection.remarks import remarks
from tailorbird.data.readers.cells import split_of_file
from tailorbird.data.readers.confined_reader import READERS, file_of, job_for
from tailorbird.data.readers.data_file import DataFile, EveryColumn, is_blank
from tailorbird.data.readers.source_resolver import open_path
from tailorbird.data.readers.text_files import FOLDER, SUFFIXES, guess_encoding
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.inspection import Guess, Inspection
from tailorbird.domain.objective import TO_FILL_IN
from tailorbird.system.sandbox import call

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
    with open_path(name, EveryColumn(), folder) as found:
        job = job_for(found, f"{__name__}:look")
        told = call(job, lambda text: progress(str(text)[:200]))
    try:
        inspection = Inspection.model_validate(told)
    except ValueError as error:
        raise DataInvalid(f"{name}: it cannot be read", "the file is damaged: write it again", code="file_broken") from error
    return inspection.model_copy(update={"name": name, "digest": found.digest})


def look(given: dict[str, Any]) -> Iterator[Any]:
    """Looks at a file in a confined process: words about how far it is, and an inspection at last."""
    found = file_of(given)
    file = as_it_looks(found)
    seen = _Seen()
    for rows in seen.pass_over(file):
        yield f"{rows:,} rows looked at"
    seen.refuse_if_unusable(file)
    columns = tuple(tally.seen() for tally in seen.tallies.values())
    guesses = guess_roles(columns, seen.rows)
    inspection = Inspection(
        name=file.name,
        kind=file.kind.lstrip("."),
        digest=file.digest,
        encoding=file.encoding if file.kind in _TEXT else None,
        separator=file.separator,
        rows=seen.rows,
        unusable=dict(seen.unusable),
        columns=columns,
        guesses=guesses,
        task=task_of(guesses),
        proposal=_proposal(file.name, file, guesses),
        notes=(*_notes(file), *remarks(seen.tallies, guesses, named_by_line=file.kind in (".csv", ".tsv"))),
    )
    yield inspection.model_dump(mode="json")


#: Kinds of file that are text.
_TEXT = (".csv", ".tsv", ".json", ".jsonl")


def as_it_looks(file: DataFile) -> DataFile:
    """The file with the encoding and the separator that it seems to have. Raises DataInvalid: binary content."""
    if file.kind not in _TEXT:
        return file
    encoding = guess_encoding(file.path)
    if encoding is None:
        hint = "give a text file; a spreadsheet is saved as 'CSV UTF-8', an archive is unpacked before"
        raise DataInvalid(f"{file.name}: binary content, not text", hint, code="file_binary")
    guessed = replace(file, encoding=encoding)
    return replace(guessed, separator=_separator(guessed)) if file.kind in (".csv", ".tsv") else guessed


def _separator(file: DataFile) -> str:
    """The mark that cuts the first lines, or most of them, into as many cells, the more the better; the format's own where none does."""
    with file.path.open(encoding=file.encoding, errors="replace", newline="") as stream:
        lines = [line for _, line in zip(range(_LINES), iter(lambda: stream.readline(1 << 16), ""), strict=False)]
    counts = {mark: _widths(lines, mark) for mark in SEPARATORS}
    if len(lines) == _LINES:  # the last record may go on in lines that were not read
        counts = {mark: found[:-1] or found for mark, found in counts.items()}
    usual = "\t" if file.kind == ".tsv" else ","
    steady = {mark: _steady(found) for mark, found in counts.items()}
    best = max(steady, key=lambda mark: (*steady[mark], mark == usual))
    return best if steady[best][-1] > 1 else usual


def _steady(widths: list[int]) -> tuple[bool, bool, int]:
    """Whether all lines have as many cells, whether the first has as many as most (a mark between labels does not stand in a header), and
    how many that are: above the header may stand a title, below the rows a sum; 0 where lines differ."""
    width, lines = Counter(widths).most_common(1)[0] if widths else (0, 0)
    if width < 2 or lines < _MOST_LINES * len(widths):
        return False, False, 0
    return lines == len(widths), widths[0] == width, width


def _widths(lines: list[str], mark: str) -> list[int]:
    """Cells of each line; none where a cell is longer than any may be."""
    try:
        return [len(cells) for cells in csv.reader(lines, delimiter=mark) if cells]
    except csv.Error:
        return []


_HEADER = "the first line that is not blank must name the columns, one name a cell: delete what stands above it, and name each column"
#: What to do about a file none of whose records can be read, by its kind and their code.
_ADVICE = {
    (".csv", "wrong_cell_count"): _HEADER,
    (".tsv", "wrong_cell_count"): _HEADER,
    (".jsonl", "broken_json"): "a .jsonl file holds one object a line, without NaN (write null); a list of objects goes into a .json file",
}


@dataclass
class _Seen:
    """What one pass has counted."""

    tallies: dict[str, ColumnTally] = field(default_factory=dict)
    unusable: Counter[str] = field(default_factory=Counter)
    first: dict[str, Quarantined] = field(default_factory=dict)
    rows: int = 0

    def pass_over(self, file: DataFile) -> Iterator[int]:
        """Counts every record; yields how many rows there were, now and then. Raises DataInvalid."""
        for record in READERS[file.kind](file, EveryColumn()):
            if isinstance(record, Quarantined):
                self.unusable[record.code] += 1
                self.first.setdefault(record.code, record)
                continue
            for column in record.cells:
                if column not in self.tallies:
                    self._add(file, column)
            if is_blank(record, file.kind):
                continue
            self.rows += 1
            for column, cell in record.cells.items():
                self.tallies[column].add(cell)
            if self.rows % OFTEN == 0:
                yield self.rows

    def refuse_if_unusable(self, file: DataFile) -> None:
        """Raises DataInvalid where no record can be read."""
        if self.rows or not self.unusable:
            return
        code, count = self.unusable.most_common(1)[0]
        first = self.first[code]
        lead = f"the most frequent reason ({count:,} times, first on line {first.line}): {first.reason}"
        message = f"{file.name}: none of its {self.unusable.total():,} records can be read"
        raise DataInvalid(message, f"{lead}; {_ADVICE.get((file.kind, code), 'write the file again')}", code="mostly_quarantined")

    def _add(self, file: DataFile, column: str) -> None:
        if len(self.tallies) == MOST_COLUMNS:
            message = f"{file.name}: more than {MOST_COLUMNS:,} columns"
            raise DataInvalid(message, "leave out columns that no row needs", code="too_many_columns")
        self.tallies[column] = ColumnTally(column)


def _proposal(name: str, file: DataFile, guesses: tuple[Guess, ...]) -> str:
    """The source in YAML. What nobody can guess, whose data it is and on what terms, is left to be filled in."""
    source: dict[str, object] = {"path": name}
    if file.kind in _TEXT and file.encoding != "utf-8":
        source["encoding"] = file.encoding
    if file.separator not in (None, "\t" if file.kind == ".tsv" else ","):
        source["separator"] = file.separator
    named = {guess.role: guess.column for guess in guesses}
    order = ("answer", "label", "relevant") if task_of(guesses) == "generate" else ("label", "answer", "relevant")
    learned = [named.pop(role) for role in order if role in named]
    named |= {"label": learned[0]} if learned else {}
    named |= {"split_column": named["split"]} if "split" in named else {}
    terms = {key: named.pop(key) for key in ("license", "collected", "consent", "retain_until") if key in named}
    keys = ("messages", "tools", "text", "label", "subject", "split_column")
    source |= {key: named[key] for key in keys if key in named and file.kind != FOLDER}
    more = [guess.column for guess in guesses if guess.role == "more_labels"]
    source |= {"label": [named["label"], *more]} if more and "label" in source else {}
    source |= {"text": [named["text"], named["more_text"]]} if "more_text" in named and "text" in source else {}
    source |= {"terms": terms} if terms else {}
    source["source"] = dict(TO_FILL_IN)
    return yaml.safe_dump({"data": [source]}, sort_keys=False, allow_unicode=True, width=120)


def _notes(file: DataFile) -> tuple[str, ...]:
    if file.kind in _TEXT and file.encoding != "utf-8":
        return (f"the encoding is a guess: look whether letters with accents read well, or save the file as UTF-8 ({file.encoding} now)",)
    return ()


#: A folder of more files of data is not taken for one set of rows.
MOST_FILES = 100
#: Files that tell about a data set.
_ABOUT = ("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "metadata", "package", "croissant")
_TERMS = ("README", "LICENSE", "LICENCE", "CHANGELOG", "CITATION")
_MEASURED = (Split.DEV, Split.TEST)
_ARROW = 'in Python: datasets.load_from_disk("{name}")["train"].to_parquet("train.parquet"), and likewise for its other splits'


@dataclass(frozen=True)
class FolderFiles:
    """Files of one data set with the split of each, those of train first and the largest of them in front; ``ignored`` are the others."""

    files: tuple[tuple[str, Split | None], ...]
    ignored: tuple[str, ...] = ()


def folder_files(name: str, folder: Path) -> FolderFiles | None:
    """The files of data in the folder ``name`` (relative to ``folder``), by paths that begin with ``name``; None where it is no folder, or
    one of texts. Raises DataInvalid where it holds no file that is read, or none but those of dev and test.

    Where names tell a split, the others are left out, unless no name says train: then they are of train. Else all are of one set.
    """
    root = folder / name
    if "://" in name or not root.is_dir():
        return None
    inside = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    shown = [path for path in inside if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    if any(path.suffix.lower() in SUFFIXES and len(path.parts) > 1 and path.stem.upper() not in _TERMS for path in shown):
        return None
    found = [path for path in shown if _is_data(path)]
    if not found and any(path.suffix == ".arrow" for path in shown):
        raise DataInvalid(f"{name}: a data set as the library datasets keeps it", _ARROW.format(name=name), code="file_kind")
    if not found:
        return None
    if len(found) > MOST_FILES:
        raise DataInvalid(f"{name}: more than {MOST_FILES} files of data", "join them, or name one", code="too_many_files")
    split = {path: split_of_file(str(path)) for path in found}
    if Split.TRAIN not in split.values() and any(split.values()):
        split = {path: of or Split.TRAIN for path, of in split.items()}
    told = any(split.values())
    used = [path for path in found if split[path] is not None] if told else found
    if told and Split.TRAIN not in split.values():
        message = f"{name}: by their names all its files of data are of dev or test"
        raise DataInvalid(message, f"to learn from one of them, name it: {PurePosixPath(name, used[0])}", code="train_missing")
    used.sort(key=lambda path: (split[path] not in (None, Split.TRAIN), -(root / path).stat().st_size, path))
    named = tuple((str(PurePosixPath(name, path)), split[path]) for path in used)
    return FolderFiles(named, tuple(str(path) for path in shown if path not in used))


def beside(name: str, folder: Path) -> tuple[str, ...]:
    """Files beside ``name``, which is none of dev or test by its name, that are."""
    path = PurePosixPath(name)
    place = folder / path.parent
    if "://" in name or split_of_file(path.name) in _MEASURED or not (folder / name).is_file():
        return ()
    return tuple(found.name for found in _data_in(place) if split_of_file(found.name) in _MEASURED)


def _data_in(place: Path) -> Iterable[Path]:
    return (path for path in sorted(place.iterdir()) if path.is_file() and not path.name.startswith(".") and _is_data(path))


def _is_data(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix in READERS.keys() - {FOLDER} and name.partition(".")[0] not in _ABOUT
