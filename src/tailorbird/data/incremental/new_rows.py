"""Rows that are new, and rows that repeat earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.data.duplicates.exact import PROTECTION, Item, contaminant, drop_duplicates, leaks_into, moved
from tailorbird.data.incremental.conditions import Known, digests_of, found_in
from tailorbird.data.incremental.state import NotAnAppend, State
from tailorbird.data.readers import SourceRow, row_id
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.value import Digest


@dataclass(frozen=True)
class NewRows:
    """New distinct rows, in the order of their first copy; ``duplicates`` counts copies of these and of earlier rows."""

    items: Sequence[Item]
    duplicates: int
    quarantined: list[Quarantined]


def newcomers(rows: Sequence[SourceRow], state: State, known: Known) -> NewRows:
    """As ``drop_duplicates`` over earlier and new rows. Raises NotAnAppend where a new row would stand in for an earlier one."""
    ids = [row_id(row.text, row.target) for row in rows]
    places = found_in(state["ids"], digests_of(ids))
    at = [places.get(bytes.fromhex(id_[7:])) for id_ in ids]
    fresh = [row for row, place in zip(rows, at, strict=True) if place is None]
    if any(place is None and id_ in known for id_, place in zip(ids, at, strict=True)):
        raise NotAnAppend("a row came back that was there before")
    distinct = drop_duplicates(fresh, {})
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
