"""Connected components of items that ties connect."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

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


def components(members: Sequence[int], ties: Iterable[Tie]) -> Iterator[list[int]]:
    """``members`` parted into sets that ties connect, in the order of their first members; ties reach members only, so that what is left
    out connects nothing."""
    members_M = np.fromiter(members, np.intp, len(members))
    place = np.full(int(members_M.max(initial=-1)) + 1, -1, dtype=np.int32)
    place[members_M] = np.arange(len(members), dtype=np.int32)
    ones, others = array("i"), array("i")
    for tie in ties:
        first, *rest = [at for index in tie if index < len(place) and (at := int(place[index])) >= 0] or [-1]
        others.extend(rest)
        ones.extend([first] * len(rest))
    label_M = component_labels(len(members), ones, others)
    order = np.argsort(label_M, kind="stable")
    begins = np.flatnonzero(np.diff(label_M[order], prepend=-1))
    ends = np.append(begins[1:], len(order))
    for part in np.argsort(order[begins], kind="stable").tolist():
        yield members_M[order[begins[part] : ends[part]]].tolist()
