"""Connected components of items that ties connect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Indices of items that belong together.
Tie = tuple[int, ...]


def component_labels(size: int, ones: ArrayLike, others: ArrayLike) -> NDArray[np.int32]:
    """The number of the component of each of ``size`` nodes, int32[size]; edge ``i`` connects ``ones[i]`` and ``others[i]``."""
    if size == 0:
        return np.empty(0, dtype=np.int32)
    from scipy.sparse import coo_array  # here, because they are slow to import and who only reads files never needs them
    from scipy.sparse.csgraph import connected_components

    one_E, other_E = np.asarray(ones, dtype=np.int32), np.asarray(others, dtype=np.int32)
    graph = coo_array((np.ones(len(one_E), dtype=np.int8), (one_E, other_E)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int32)


class Components(NamedTuple):
    """Members, those of a component one after the other; where each component begins and ends among them, in the order of their first
    members."""

    members_M: NDArray[np.intp]
    begins_C: NDArray[np.intp]
    ends_C: NDArray[np.intp]

    def parts(self, *, smallest: int = 1) -> Iterator[list[int]]:
        """The members of each component that has so many."""
        large_C = self.ends_C - self.begins_C >= smallest
        ordered = self.members_M.tolist()  # slices of a list are made faster than those of an array
        for start, stop in zip(self.begins_C[large_C].tolist(), self.ends_C[large_C].tolist(), strict=True):
            yield ordered[start:stop]


def components(members: Sequence[int], ties: Iterable[Tie], *, smallest: int = 1) -> Iterator[list[int]]:
    """``members`` parted into sets that ties connect, in the order of their first members; ties reach members only, so that what is left
    out connects nothing. Sets of fewer than ``smallest`` are left out."""
    yield from connected(members, ties).parts(smallest=smallest)


def connected(members: Sequence[int], ties: Iterable[Tie]) -> Components:
    """The same, in arrays."""
    members_M = np.fromiter(members, np.intp, len(members))
    place = np.full(int(members_M.max(initial=-1)) + 1, -1, dtype=np.int32)
    place[members_M] = np.arange(len(members), dtype=np.int32)
    ones, others = _edges(list(ties), place)
    label_M = component_labels(len(members), ones, others)
    order = np.argsort(label_M, kind="stable")
    begins = np.flatnonzero(np.diff(label_M[order], prepend=-1))
    ends = np.append(begins[1:], len(order))
    parts = np.argsort(order[begins], kind="stable")
    return Components(members_M[order], begins[parts], ends[parts])


def _edges(ties: Sequence[Tie], place: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What connects neighbours of a tie, by their places; those that have none are passed over."""
    sizes_T = np.fromiter(map(len, ties), np.intp, len(ties))
    index_E = np.fromiter(chain.from_iterable(ties), np.intp, int(sizes_T.sum()))
    tie_E, near_E = np.repeat(np.arange(len(ties)), sizes_T), index_E < len(place)
    at_E, tie_E = place[index_E[near_E]], tie_E[near_E]
    at_E, tie_E = at_E[at_E >= 0], tie_E[at_E >= 0]
    joined_E = tie_E[1:] == tie_E[:-1]
    return at_E[:-1][joined_E], at_E[1:][joined_E]
