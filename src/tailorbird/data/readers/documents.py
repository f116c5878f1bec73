"""Documents of the tenant, for retrieval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tailorbird.data.readers.cells import UnusableRecord, groups_cell, name_cell, subject_cell, text_cell
from tailorbird.data.readers.confined_reader import read_records
from tailorbird.data.readers.data_file import DataFile, Record
from tailorbird.data.readers.source_resolver import open_path
from tailorbird.data.readers.text_files import FOLDER
from tailorbird.domain.dataset import EVERYONE, Document, Provenance, Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DocumentSource
from tailorbird.domain.value import Digest

#: The pseudonym that stands for a name.
Pseudonyms = Callable[[str], str]


@dataclass
class ReadDocuments:
    """Documents by id, in the order in which they were read."""

    documents: dict[str, Document] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)
    files: dict[str, Digest] = field(default_factory=dict)
    columns: dict[str, frozenset[str]] = field(default_factory=dict)


def columns_of_documents(source: DocumentSource) -> dict[str, str]:
    """The columns that a source names, by the key under which it names them."""
    named = {"id": source.id, "text": source.text, "title": source.title, "access": source.access, "subject": source.subject}
    return {key: column for key, column in named.items() if column}


def read_documents(sources: tuple[DocumentSource, ...], folder: Path, named: Pseudonyms) -> ReadDocuments:
    """Reads every source; people are called as ``named`` says. In a folder, a document's id is its path, everybody may read it, and it is
    about nobody.

    Raises DataInvalid when a file as a whole cannot be used or lacks a column, Unavailable as ``open_source``.
    """
    found = ReadDocuments()
    for source in sources:
        wanted = columns_of_documents(source)
        with open_path(source.path, wanted.values(), folder) as file:
            columns = _read(file, source, found, named)
            found.files[file.name] = file.digest
            found.columns[file.name] = frozenset(columns)
        missing = [column for key, column in wanted.items() if columns and column not in columns and file.kind != FOLDER]
        if missing:
            message = f"{file.name}: there is no column {missing[0]!r}, which the objective names under `documents`"
            raise DataInvalid(message, f"name one of: {', '.join(sorted(columns)[:30])}", code="column_missing")
    return found


def _read(file: DataFile, source: DocumentSource, found: ReadDocuments, named: Pseudonyms) -> set[str]:
    columns: set[str] = set()
    for record in read_records(file, columns_of_documents(source).values()):
        found.read[file.name] += 1
        if isinstance(record, Quarantined):
            found.quarantined.append(record)
            continue
        columns.update(record.cells)
        try:
            document = _document(file, record, source, named)
            known = found.documents.setdefault(document.id, document)
            if _content(known) != _content(document):
                raise UnusableRecord("id_twice", "another document has this id")
        except UnusableRecord as problem:
            name = (record.file or file).name
            found.quarantined.append(Quarantined(file=name, line=record.line, code=problem.code, reason=problem.reason))
    return columns


def _content(document: Document) -> tuple[str, str, tuple[str, ...]]:
    """What makes two records with one id the same document: a file of queries with their passages repeats passages."""
    return document.title, document.text, document.access


def _document(file: DataFile, record: Record, source: DocumentSource, named: Pseudonyms) -> Document:
    if record.file is not None:
        inside = record.file.name.removeprefix(f"{file.name.rstrip('/')}/")
        return Document(id=inside, text=text_cell(record, "text", "text"), provenance=_provenance(record.file, record, source, None))
    subject = subject_cell(record, source.subject)
    return Document(
        id=name_cell(record, "id", source.id),
        title=text_cell(record, "title", source.title) if source.title and record.cells.get(source.title) else "",
        text=text_cell(record, "text", source.text),
        access=groups_cell(record, source.access) if source.access else (EVERYONE,),
        provenance=_provenance(file, record, source, named(subject) if subject else None),
    )


def _provenance(file: DataFile, record: Record, source: DocumentSource, subject: str | None) -> Provenance:
    said = source.source
    return Provenance(
        file=file.name,
        file_digest=file.digest if record.file is not None else None,
        line=record.line,
        origin=said.origin,
        license=said.license,
        collected=str(said.collected),
        consent=said.consent,
        subject=subject,
        retain_until=said.retain_until,
    )
