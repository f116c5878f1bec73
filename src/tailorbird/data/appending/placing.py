"""Splits for new items, and for whatever earlier item they reach.

In: earlier and new items tied together. Out: where the new ones go, and what is set aside. Must not know: texts, files' formats.

Only parts that a new item is in are placed again, by the very rules of ``splitting.placing``; no earlier row that has a place moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.appending.conditions import SPLITS, Known
from tailorbird.data.appending.joining import Joined
from tailorbird.data.appending.newcomers import fixed_at, subject_at
from tailorbird.data.appending.standing_in import stand_ins
from tailorbird.data.appending.state import NotAnAppend, State
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.reading import Place, SourceRow
from tailorbird.data.splitting.labels import labels_of
from tailorbird.data.splitting.placing import Group, place
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.objective import Task


@dataclass(frozen=True)
class Placed:
    """``places`` are the numbers of items that were placed again, ``rows`` those of them that came into the snapshot now, with their
    groups; ``set_aside`` says why others have no place."""

    places: NDArray[np.intp]
    rows: list[tuple[int, Item, Group]]
    set_aside: list[Quarantined]


def place_newcomers(state: State, joined: Joined, items: Sequence[Item], known: Known, salt: str, drawn: Sequence[Split]) -> Placed:
    """Places the parts that new ``items`` are in. Raises NotAnAppend where an earlier row would lose its place."""
    earlier = len(state["text"])
    touched = np.zeros(int(joined.part.max(initial=-1)) + 1, dtype=np.bool_)
    touched[joined.part[earlier:]] = True
    touched[joined.part[np.isin(joined.text, joined.undone)]] = True
    places = np.flatnonzero(touched[joined.part])
    settled = stand_ins(state, joined, places)
    members = sorted([*settled.places, *settled.others])
    placed = [items[at - earlier] if at >= earlier else _earlier_item(state, at, known) for at in members]
    number = {at: position for position, at in enumerate(members)}
    placement = place(placed, [tuple(number[at] for at in tie) for tie in settled.ties], salt, drawn)
    at_id = {item.id: at for item, at in zip(placed, members, strict=True)}
    rows = [(at_id[item.id], item, group) for group in placement.groups for item in group.items]
    _check(state, rows, [at for at in members if at < earlier])
    return Placed(places, [row for row in rows if row[0] >= earlier], placement.quarantined)


def check_cover(placed: Placed, have: NDArray[np.int64], drawn: Sequence[Split], task: Task, targets: Sequence[str]) -> None:
    """Raises NotAnAppend where a new group might be moved to a split that lacks its label; ``have`` int64[targets, 3] counts rows."""
    needed = {label for _, item, group in placed.rows if group.free for label in labels_of(item.row.target, task)}
    for label in needed:
        bearing = [number for number, target in enumerate(targets) if label in labels_of(target, task)]
        if not all(have[bearing, SPLITS.index(split)].sum() for split in drawn):
            raise NotAnAppend("a label is missing in a split")


def _earlier_item(state: State, at: int, known: Known) -> Item:
    """An earlier item as far as placing looks at it: without its text."""
    id_ = "sha256:" + state["ids"][at].tobytes().hex()
    split, group = known.get(id_, (None, ""))
    file = Place(state.facts["files"][int(state["file"][at])][0], None, "", "", "", "")
    target = state.facts["targets"][int(state["target"][at])]
    row = SourceRow("", target, None, fixed_at(state, at), file, int(state["line"][at]))
    return Item(id_, "", row, subject_at(state, at), Split(split) if split else None, group)


def _check(state: State, rows: list[tuple[int, Item, Group]], earlier: Sequence[int]) -> None:
    now = {at: group for at, _, group in rows}
    for at in earlier:
        group, was = now.get(at), int(state["split"][at])
        there = group is not None and (SPLITS.index(group.split), bytes.fromhex(group.id[7:])) == (was, state["groups"][at].tobytes())
        if there is not (was >= 0):
            raise NotAnAppend("an earlier row would move")
