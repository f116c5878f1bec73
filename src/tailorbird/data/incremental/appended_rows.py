"""Appended rows: read from the end of the last file or from further files, and told apart from rows that repeat earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.digest_arrays import digests_of
from tailorbird.data.duplicates.exact import PROTECTION, Item, NamedRows, contaminant, drop_duplicates, leaks_into, moved
from tailorbird.data.incremental.conditions import Known, found_in
from tailorbird.data.incremental.state import NotAnAppend, State
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.readers import SourceRow, SourceRows, row_id
from tailorbird.data.readers.appended_reader import lines_before
from tailorbird.data.readers.confined_reader import read_appended
from tailorbird.data.readers.data_file import DataFile
from tailorbird.data.readers.source_resolver import open_source
from tailorbird.data.readers.source_rows import RowBuilder
from tailorbird.data.readers.sources import in_order, read_file
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.objective import DataSource
from tailorbird.domain.value import Digest


@dataclass
class AppendedRows:
    """Appended rows as read. ``sources`` are compared by the next build."""

    rows: list[SourceRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    read: dict[str, int] = field(default_factory=dict)
    files: dict[str, Digest] = field(default_factory=dict)
    columns: dict[str, frozenset[str]] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)

    @property
    def as_read(self) -> SourceRows:
        """As ``read_sources`` gives them."""
        return SourceRows(tuple(self.rows), tuple(self.quarantined), self.read, self.files)


def source_facts(source: DataSource, digest: Digest, size: int) -> dict[str, Any]:
    """Facts by which the next build recognises a source, as far as it was read: ``size`` bytes."""
    return {"source": digest_of(source), "path": source.path, "digest": digest, "size": size}


def size_of(file: DataFile) -> int:
    """Size of a file in bytes; 0 for a folder."""
    return file.path.stat().st_size if file.path.is_file() else 0


def read_appended_rows(request: SnapshotRequest, before: list[dict[str, Any]]) -> AppendedRows:
    """Reads the appended rows. Raises NotAnAppend where a file that was read before is another one, unless it is the last and has grown;
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
    with open_source(source, request.folder) as file:
        growth.sources.append(source_facts(source, file.digest, size_of(file)))
        growth.files[file.name] = file.digest
        if was and file.digest == was["digest"]:
            return
        records = _records(file, was, last=last) if was else None
        found = read_file(file, making, request.objective.task, records)
    growth.rows += found.usable
    growth.quarantined += found.unusable
    growth.read[file.name] = len(found.usable) + len(found.unusable)
    growth.columns[file.name] = frozenset(found.columns)


def _records(file: DataFile, was: dict[str, Any], *, last: bool):  # type: ignore[no-untyped-def]
    lines = lines_before(file, was["size"], was["digest"]) if last else None
    if lines is None:
        raise NotAnAppend(f"{file.name} was changed, and not at its end")
    return read_appended(file, was["size"], lines)


@dataclass(frozen=True)
class NewRows:
    """New distinct rows, in the order of their first copy; ``duplicates`` counts copies of these and of earlier rows."""

    items: Sequence[Item]
    duplicates: int
    quarantined: list[Quarantined]


def distinct_new_rows(rows: Sequence[SourceRow], state: State, known: Known) -> NewRows:
    """As ``drop_duplicates`` over earlier and new rows. Raises NotAnAppend where a new row would stand in for an earlier one."""
    ids = [row_id(row.text, row.target) for row in rows]
    places = found_in(state["ids"], digests_of(ids))
    at = [places.get(bytes.fromhex(id_[7:])) for id_ in ids]
    fresh = [row for row, place in zip(rows, at, strict=True) if place is None]
    if any(place is None and id_ in known for id_, place in zip(ids, at, strict=True)):
        raise NotAnAppend("a row came back that was there before")
    distinct = drop_duplicates(NamedRows.of(fresh), {})
    copies = [_copy(id_, row, place, state, known) for id_, row, place in zip(ids, rows, at, strict=True) if place is not None]
    gone = [entry for entry in copies if entry is not None]
    return NewRows(distinct.items, distinct.duplicates + len(copies) - len(gone), [*distinct.quarantined, *gone])


def _copy(id_: Digest, row: SourceRow, place: int, state: State, known: Known) -> Quarantined | None:
    """Why a copy of the item at ``place`` is set aside; None where it is counted as a duplicate."""
    fixed, subject = fixed_at(state, place), subject_at(state, place)
    if PROTECTION[row.fixed] > PROTECTION[fixed] or (subject is not None and subject != row.subject):
        raise NotAnAppend("a copy changes what an earlier row is")
    split = Split(known[id_][0]) if id_ in known else None
    if split and row.fixed not in (None, split):
        return moved(Item(id_, "", row, known=split))
    return contaminant(row, fixed) if leaks_into(fixed, row.fixed) else None


def fixed_at(state: State, place: int) -> Split | None:
    """The split to which the source of the item at ``place`` is fixed."""
    fixed = state.facts["files"][int(state["file"][place])][1]
    return Split(fixed) if fixed else None


def subject_at(state: State, place: int) -> str | None:
    """The pseudonym that the item at ``place`` belongs to."""
    number = int(state["subject"][place])
    return state.facts["subjects"][number] if number >= 0 else None
