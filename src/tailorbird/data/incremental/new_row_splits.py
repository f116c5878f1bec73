"""Splits for new rows, and for the earlier rows that they tie to; a few representatives stand for large placed groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.components import Tie, component_labels
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.incremental.appended_rows import fixed_at, subject_at
from tailorbird.data.incremental.conditions import SPLITS, Known
from tailorbird.data.incremental.index_merge import MergedIndex
from tailorbird.data.incremental.state import NotAnAppend, State
from tailorbird.data.readers import SourcePlace, SourceRow
from tailorbird.data.splits.split_assignment import SplitGroup, assign_splits, labels_of
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.objective import Task

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Representatives:
    """Numbers of items: ``places`` stand for all that keep their places, ``others`` have none yet. ``ties`` are among both.

    Rows that have a place and are tied to each other, whatever came later, follow nobody. Of those in one group, of sources with the same
    fixed split, each says the same to whoever follows them: one stands for all.
    """

    places: list[int]
    others: list[int]
    ties: list[Tie]


def representatives_of(state: State, joined: MergedIndex, places_P: Places) -> Representatives:
    """Of the items at ``places_P``, ascending: all that some tie connects. Raises NotAnAppend where an earlier row would move."""
    split_N = np.full(len(joined.text), -1, dtype=np.int8)
    split_N[: len(state["split"])] = state["split"]
    settled_P = split_N[places_P] >= 0
    settled_S, others = places_P[settled_P], places_P[~settled_P]
    first_T = _first(joined.text[places_P], places_P, len(joined.label))
    inside = (first_T[joined.pairs[:, 0]] >= 0) & (first_T[joined.pairs[:, 1]] >= 0)
    edges_E2 = first_T[joined.pairs[inside]]
    writer_N = _writers(joined)
    label_S = _connected(settled_S, edges_E2[(split_N[edges_E2] >= 0).all(axis=1)], joined.text, writer_N)
    if _unique(label_S, split_N[settled_S]) != _unique(label_S):
        raise NotAnAppend("an earlier row would move")
    chosen = _one_of_each(state, settled_S, label_S)
    standing = dict[int, list[int]]()
    for label, at in zip(label_S[chosen].tolist(), settled_S[chosen].tolist(), strict=True):
        standing.setdefault(label, []).append(at)
    node_N = np.arange(len(joined.text), dtype=np.intp)
    node_N[settled_S] = (
        np.array([standing[label][0] for label in range(len(standing))], dtype=np.intp)[label_S] if len(settled_S) else settled_S
    )
    ties: list[Tie] = [tuple(same) for same in standing.values() if len(same) > 1]
    ties += [(one, other) for one, other in node_N[edges_E2].tolist() if one != other]
    for key_N in (joined.text, writer_N):
        ties += _shared_keys(key_N, node_N, settled_S, others)
    return Representatives(settled_S[chosen].tolist(), others.tolist(), ties)


def _first(key_P: NDArray[np.int32], places_P: Places, size: int) -> Places:
    """By key: the first place that bears it, or -1."""
    first = np.full(size, -1, dtype=np.intp)
    first[key_P[::-1]] = places_P[::-1]
    return first


def _writers(joined: MergedIndex) -> NDArray[np.int32]:
    """The subject of each item whose rows it ties together, or -1: what several wrote alike ties nobody's."""
    shared_N = joined.shared[joined.label[joined.text]]
    return np.asarray(np.where(shared_N, -1, joined.subject), dtype=np.int32)


def _connected(settled_S: Places, edges_E2: Places, *keys: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers, from 0 on, of the sets that edges or equal keys (of all items, -1 for none) connect."""
    size = len(settled_S)
    pairs = [np.searchsorted(settled_S, edges_E2).astype(np.int32)]
    for key_N in keys:
        key_S = key_N[settled_S]
        order = np.argsort(key_S, kind="stable").astype(np.int32)
        same = (key_S[order[1:]] == key_S[order[:-1]]) & (key_S[order[1:]] >= 0)
        pairs.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
    return component_labels(size, *np.concatenate(pairs).T)


def _unique(label_S: NDArray[np.int32], other_S: NDArray[np.int8] | None = None) -> int:
    """How many different labels there are, each counted once for each of the others that stand beside it."""
    return len(np.unique(label_S if other_S is None else label_S.astype(np.int64) * len(SPLITS) + other_S))


def _one_of_each(state: State, settled_S: Places, label_S: NDArray[np.int32]) -> Places:
    """The first of each set, group and fixed split."""
    fixed_F = np.array([SPLITS.index(fixed) if fixed else -1 for _, fixed in state.facts["files"]], dtype=np.int32)
    alike_S5 = np.empty((len(settled_S), 5), dtype=np.uint64)
    alike_S5[:, 0] = label_S.astype(np.uint64) << np.uint64(2) | (fixed_F[state["file"][settled_S]] + 1).astype(np.uint64)
    alike_S5[:, 1:] = np.ascontiguousarray(state["groups"][settled_S]).view(np.uint64)
    rows = alike_S5.view(np.dtype((np.void, alike_S5.shape[1] * 8)))[:, 0]
    return np.sort(np.unique(rows, return_index=True)[1])


def _shared_keys(key_N: NDArray[np.int32], node_N: Places, settled_S: Places, others: Places) -> Iterator[Tie]:
    """The others that bear one key, with whatever stands for those who bear it and have a place."""
    standing_K = _first(key_N[settled_S], node_N[settled_S], int(key_N.max(initial=-1)) + 2)
    bearing: dict[int, list[int]] = {}
    for at, key in zip(others.tolist(), key_N[others].tolist(), strict=True):
        if key >= 0:
            bearing.setdefault(key, []).append(at)
    for key, same in bearing.items():
        tie = (*same, int(standing_K[key])) if standing_K[key] >= 0 else tuple(same)
        if len(tie) > 1:
            yield tie


@dataclass(frozen=True)
class AssignedRows:
    """``places`` are the numbers of items that were placed again, ``rows`` those of them that came into the snapshot now, with their
    groups; ``set_aside`` says why others have no place."""

    places: NDArray[np.intp]
    rows: list[tuple[int, Item, SplitGroup]]
    set_aside: list[Quarantined]


def place_new_rows(
    state: State, joined: MergedIndex, items: Sequence[Item], known: Known, salt: str, drawn: Sequence[Split]
) -> AssignedRows:
    """Places the parts that new ``items`` are in. Raises NotAnAppend where an earlier row would lose its place."""
    earlier = len(state["text"])
    touched = np.zeros(int(joined.part.max(initial=-1)) + 1, dtype=np.bool_)
    touched[joined.part[earlier:]] = True
    touched[joined.part[np.isin(joined.text, joined.undone)]] = True
    places = np.flatnonzero(touched[joined.part])
    settled = representatives_of(state, joined, places)
    members = sorted([*settled.places, *settled.others])
    placed = [items[at - earlier] if at >= earlier else _earlier_item(state, at, known) for at in members]
    number = {at: position for position, at in enumerate(members)}
    placement = assign_splits(placed, [tuple(number[at] for at in tie) for tie in settled.ties], salt, drawn)
    at_id = {item.id: at for item, at in zip(placed, members, strict=True)}
    rows = [(at_id[item.id], item, group) for group in placement.groups for item in group.items]
    _check(state, rows, [at for at in members if at < earlier])
    return AssignedRows(places, [row for row in rows if row[0] >= earlier], placement.quarantined)


def check_cover(placed: AssignedRows, have: NDArray[np.int64], drawn: Sequence[Split], task: Task, targets: Sequence[str]) -> None:
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
    file = SourcePlace(state.facts["files"][int(state["file"][at])][0], None, "", "", "", "")
    target = state.facts["targets"][int(state["target"][at])]
    row = SourceRow("", target, None, fixed_at(state, at), file, int(state["line"][at]))
    return Item(id_, "", row, subject_at(state, at), Split(split) if split else None, group)


def _check(state: State, rows: list[tuple[int, Item, SplitGroup]], earlier: Sequence[int]) -> None:
    now = {at: group for at, _, group in rows}
    for at in earlier:
        group, was = now.get(at), int(state["split"][at])
        there = group is not None and (SPLITS.index(group.split), bytes.fromhex(group.id[7:])) == (was, state["groups"][at].tobytes())
        if there is not (was >= 0):
            raise NotAnAppend("an earlier row would move")
