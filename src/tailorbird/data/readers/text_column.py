"""The texts of one column, where nothing else of a file matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tailorbird.data.readers.cells import UnusableRecord, text_cell
from tailorbird.data.readers.confined_reader import read_records
from tailorbird.data.readers.record import Record
from tailorbird.data.readers.source_resolver import located
from tailorbird.domain.curation import ProtectedSet
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataOrigin, DataSource
from tailorbird.text.normalisation import normalise


def read_texts(of: ProtectedSet, folder: Path) -> Iterator[str]:
    """Each text, normalised. Records without one are passed over. Raises DataInvalid when there are none, Unavailable as ``locating``."""
    source = DataSource(path=of.path, text=of.text, label=of.text, source=DataOrigin(origin="protected", license="-"))
    seen = False
    with located(source, folder) as file:
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
