"""Source resolver: a path, folder, address or hub data set opened as a local data file."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tailorbird.data.readers.data_file import DataFile, open_file
from tailorbird.data.readers.hub import PREFIX, fetch_rows
from tailorbird.data.readers.packed_file import is_packed, unpacked
from tailorbird.data.readers.parser_process import READERS
from tailorbird.data.readers.remote import check_address, fetch
from tailorbird.data.readers.text_files import FOLDER, open_folder
from tailorbird.domain.errors import DataInvalid, Forbidden
from tailorbird.domain.objective import DataSource
from tailorbird.system.source_access import is_bounded


def columns_of(source: DataSource, split_by: str = "") -> dict[str, str]:
    """The columns that a source names, by the key under which it names them; and the one that all rows are split by."""
    text, label = _keyed("text", source.text), _keyed("label", source.label)
    content = {"messages": source.messages, "tools": source.tools or ""} if source.messages else {**text, **label}
    if source.out_of_scope:
        content = text
    if source.qrels:
        content = {"id": source.id, **text}
    terms = {f"terms.{key}": column for key, column in source.terms}
    more = {"subject": source.subject, "split_column": source.split_column, "split.by": split_by}
    return {key: column for key, column in {**content, **more, **terms}.items() if column}


def _keyed(key: str, columns: str | tuple[str, ...]) -> dict[str, str]:
    """One column by its key, several by the key and their places."""
    return {key: columns} if isinstance(columns, str) else {f"{key}.{place}": column for place, column in enumerate(columns)}


_RELATIVE = "paths are relative to the folder of the objective file"
_SHEET = "save the sheet as 'CSV UTF-8' (in a spreadsheet: Save As, or Export): the first line names the columns, a row a line"
_PACKED = "unpack it, and give {readable}"
_LINES = "give {readable}: a .csv with a line of column names (text,label), a folder LABEL/NAME.txt for whole texts"
_TABLE = "write it as Parquet, where it was made (pandas: to_parquet('rows.parquet'); pyarrow: parquet.write_table)"
_TEXTS = "take the texts out of it: a .csv with a line of column names (text,label), or a folder LABEL/NAME.txt"
#: What to do with other kinds of file that often hold data.
_OTHERWISE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar"), _PACKED),
    **dict.fromkeys((".txt", ".md", ".log"), _LINES),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".pkl", ".pickle", ".npz", ".dta", ".sav", ".rds"), _TABLE),
    **dict.fromkeys((".pdf", ".docx", ".doc", ".rtf", ".odt", ".html", ".htm", ".xml", ".eml", ".mbox"), _TEXTS),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "export the table as CSV"),
    **dict.fromkeys((".ndjson", ".jsonlines", ".jl"), "rename it so that it ends in .jsonl"),
    ".pq": "rename it so that it ends in .parquet",
}


@contextmanager
def open_source(source: DataSource, folder: Path, split_by: str = "") -> Iterator[DataFile]:
    """The file of ``source``, as ``open_path``, with what the source says of its letters and separators."""
    with open_path(source.path, columns_of(source, split_by).values(), folder) as file:
        yield replace(file, encoding=source.encoding, separator=source.separator)


@contextmanager
def open_path(name: str, wanted: Collection[str], folder: Path) -> Iterator[DataFile]:
    """The file called ``name``: what is not on this machine is there until the end of the ``with`` block.

    Of a data set on the hub only the ``wanted`` columns are fetched. Raises DataInvalid (kind of file that is not read, nothing there),
    Unavailable (storage, hub or package cannot be reached).
    """
    if "://" not in name:
        with _local(name, folder / name) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="tailorbird-") as workspace, _fetched(name, wanted, Path(workspace)) as file:
        yield file


def _local(name: str, path: Path) -> AbstractContextManager[DataFile]:
    if is_bounded() and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise Forbidden(f"{name} did not come with the objective", "upload it", code="upload_missing")
    if not path.exists():
        pattern = any(mark in name for mark in "*?[")
        hint = "name each file as a source of its own: patterns are not expanded" if pattern else _RELATIVE
        raise DataInvalid(f"{name}: there is no such file", hint, code="file_missing")
    return open_folder(name, path) if path.is_dir() else _opened(name, path)


@contextmanager
def _opened(name: str, path: Path) -> Iterator[DataFile]:
    """A file, or what is packed in it; the digest is that of its own bytes."""
    packed = PurePosixPath(name).suffix.lower()
    if not is_packed(name):
        with open_file(name, path, _kind(name)) as file:
            yield file
        return
    _check_packed(name)
    with open_file(name, path, packed) as file, unpacked(name, path, packed) as (place, suffix):
        kind = _kind(f"{name}/*{suffix}") if packed == ".zip" else _kind(name[: -len(packed)])
        yield replace(file, path=place, kind=kind, packed=path.stat().st_size)


def _check_packed(name: str) -> None:
    """Raises DataInvalid where the name tells that what is packed cannot be read."""
    if name.lower().endswith(".gz"):
        _kind(name[: -len(".gz")])


def _fetched(name: str, wanted: Collection[str], workspace: Path) -> AbstractContextManager[DataFile]:
    if name.startswith(PREFIX):
        return open_file(name, fetch_rows(name, wanted, workspace), ".jsonl")
    check_address(name)
    if not PurePosixPath(name).suffix:
        return open_folder(name, fetch(name, workspace, folder=True))
    if is_packed(name):
        _check_packed(name)
    else:
        _kind(name)
    return _opened(name, fetch(name, workspace, folder=False))


def _kind(name: str) -> str:
    kind = PurePosixPath(name).suffix.lower()
    if kind not in READERS:
        suffixes = ", ".join(suffix for suffix in READERS if suffix != FOLDER)
        readable = f"a file that ends in {suffixes} (or that and .gz, or one in a .zip), or a folder of .txt files"
        hint = _OTHERWISE.get(kind, "give {readable}").format(readable=readable)
        raise DataInvalid(f"{name}: a kind of file that cannot be read", hint, code="file_kind")
    return kind
