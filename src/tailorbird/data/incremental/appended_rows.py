"""What was appended to the files of an objective: to the end of the last one, or as further files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data.incremental.state import NotAnAppend
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.readers import SourceRow, SourceRows
from tailorbird.data.readers.appended_reader import lines_before
from tailorbird.data.readers.confined_reader import read_appended
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.row_builder import RowBuilder
from tailorbird.data.readers.source_resolver import located
from tailorbird.data.readers.sources import in_order, read_file
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.objective import DataSource
from tailorbird.domain.value import Digest


@dataclass
class AppendedRows:
    """The rows that are new, as read. ``sources`` are to be compared next time."""

    rows: list[SourceRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    files: dict[str, Digest] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)

    @property
    def as_read(self) -> SourceRows:
        """As ``read_sources`` gives them."""
        return SourceRows(tuple(self.rows), tuple(self.quarantined), self.read, self.files)


def source_facts(source: DataSource, digest: Digest, size: int) -> dict[str, Any]:
    """What a source must be next time, as far as it was read: ``size`` bytes."""
    return {"source": digest_of(source), "path": source.path, "digest": digest, "size": size}


def size_of(file: DataFile) -> int:
    """Bytes of a file; of a folder nothing is asked."""
    return file.path.stat().st_size if file.path.is_file() else 0


def read_growth(request: SnapshotRequest, before: list[dict[str, Any]]) -> AppendedRows:
    """Reads what is new. Raises NotAnAppend where a file that was read before is another one, unless it is the last and has grown;
    DataInvalid as reading does."""
    sources, growth = in_order(request.objective.data), AppendedRows()
    if [digest_of(source) for source in sources[: len(before)]] != [was["source"] for was in before]:
        raise NotAnAppend("the sources are others")
    for number, source in enumerate(sources):
        was = before[number] if number < len(before) else None
        _read(request, source, was, growth, last=number == len(before) - 1)
    return growth


def _read(request: SnapshotRequest, source: DataSource, was: dict[str, Any] | None, growth: AppendedRows, *, last: bool) -> None:
    making = RowBuilder(request.objective, source, request.amendments.secret)
    with located(source, request.folder) as file:
        growth.sources.append(source_facts(source, file.digest, size_of(file)))
        growth.files[file.name] = file.digest
        if was and file.digest == was["digest"]:
            return
        records = _records(file, was, last=last) if was else None
        usable, unusable = read_file(file, making, request.objective.task, records)
    growth.rows += usable
    growth.quarantined += unusable
    growth.read[file.name] = len(usable) + len(unusable)


def _records(file: DataFile, was: dict[str, Any], *, last: bool):  # type: ignore[no-untyped-def]
    lines = lines_before(file, was["size"], was["digest"]) if last else None
    if lines is None:
        raise NotAnAppend(f"{file.name} was changed, and not at its end")
    return read_appended(file, was["size"], lines)
