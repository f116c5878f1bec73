"""State writer: saves what an incremental build needs after a full build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.digest_arrays import digests_of
from tailorbird.data.duplicates.exact import Item
from tailorbird.data.duplicates.split_groups import TextTies
from tailorbird.data.incremental.appended_rows import size_of, source_facts
from tailorbird.data.incremental.conditions import SPLITS, KnownArrays, conditions, first_end, is_appendable, known_arrays, known_digest
from tailorbird.data.incremental.index_merge import arrays_of, pairs_array
from tailorbird.data.incremental.state import forget, save_facts, save_rows
from tailorbird.data.item_columns import Columns
from tailorbird.data.item_digests import numbers_of
from tailorbird.data.pipeline import PipelineResult, SnapshotRequest
from tailorbird.data.placed_rows import Placed
from tailorbird.data.readers import SourcePlace
from tailorbird.data.readers.source_resolver import open_source
from tailorbird.data.readers.sources import in_order
from tailorbird.data.snapshot_writer import WrittenSnapshot
from tailorbird.domain.value import Digest

Assigned = Mapping[Digest, tuple[str, str]]


class StateWriter:
    """Keeps what rows that are appended need, where the request says where: rows first, whose arrays may go then, the rest at the end.

    Forgets what was kept before where rows cannot grow.
    """

    def __init__(self, request: SnapshotRequest, gathered: PipelineResult) -> None:
        self._request = request
        self._facts: dict[str, Any] = {}
        if request.memory is None:
            return
        sources = _sources(request, gathered) if is_appendable(request) else []
        if not sources:
            forget(request.memory)
            return
        places = gathered.sources.places
        names, columns = gathered.prepared.columns.of(gathered.items, request.objective)
        facts: dict[str, Any] = {
            "conditions": conditions(request, gathered.schemes),
            "sources": sources,
            "faulty": dict(gathered.faulty),
            "read": gathered.sources.read,
            "retain": first_end(place.retain_until for place in places),
            "terms": terms_of(places),
            **names,
        }
        arrays = _arrays(gathered, columns)
        at = np.flatnonzero(arrays["row"] >= 0)
        self._placed = KnownArrays(arrays["ids"][at], arrays["groups"][at], arrays["split"][at].astype(np.uint8))
        self._token = save_rows(request.memory, arrays)
        self._facts = facts if self._token else {}

    def finish(self, frozen: WrittenSnapshot, assigned: Assigned) -> None:
        """Saves the split assignment and the manifest."""
        if self._request.memory is None or not self._facts:
            return
        facts = self._facts | {
            "known": known_digest(self._known_with(assigned)),
            "manifest": frozen.manifest.model_dump(mode="json"),
        }
        save_facts(self._request.memory, self._token, facts, {"bytes": frozen.lengths_M, "leaves": frozen.leaves_MB})

    def _known_with(self, assigned: Assigned) -> KnownArrays | None:
        """The assignment of all rows, earlier ones too; None where ids are no digests."""
        others = known_arrays({row: place for row, place in self._request.known.items() if row not in assigned})
        return self._placed.joined(others) if others else None


def terms_of(places: Iterable[SourcePlace]) -> list[list[str]]:
    """Distinct terms of use of ``places``, sorted, for the saved state."""
    return sorted([*terms] for terms in {(place.license, place.origin, place.collected, place.consent) for place in places})


def _sources(request: SnapshotRequest, gathered: PipelineResult) -> list[dict[str, object]]:
    """The sources as they were read; none where one is another by now. What lies at an address is not fetched again."""
    found, files = list[dict[str, object]](), gathered.sources.files
    for source in in_order(request.objective.data):
        if "://" in source.path:
            found.append(source_facts(source, files[source.path], 0))
            continue
        with open_source(source, request.folder) as file:
            if file.digest != files[source.path]:
                return []
            found.append(source_facts(source, file.digest, size_of(file)))
    return found


def _places(items: Sequence[Item], placed: Placed) -> NDArray[np.intp]:
    """The places of placed items among all."""
    numbers_N = numbers_of(items)
    at = np.empty(int(numbers_N.max()) + 1, np.intp)
    at[numbers_N] = np.arange(len(items))
    return np.asarray(at[numbers_of([item for item, _ in placed])])


def _texts(ties: TextTies, size: int) -> NDArray[np.int32]:
    """The number of each item's text."""
    text_N = np.empty(size, np.int32)
    text_N[np.asarray(ties.first, np.intp)] = np.arange(len(ties.first), dtype=np.int32)
    for first, *others in ties.same:
        text_N[others] = text_N[first]
    return text_N


def _arrays(gathered: PipelineResult, columns: Columns) -> dict[str, NDArray[Any]]:
    items, placed, ties = gathered.items, gathered.placed, gathered.text_ties
    assert ties is not None
    digests, at, numbers = gathered.prepared.digests, _places(items, placed), {id(split): number for number, split in enumerate(SPLITS)}
    ids = digests.ids(items)
    groups, split, row = np.zeros_like(ids), np.full(len(items), -1, np.int8), np.full(len(items), -1, np.int32)
    groups[at] = ids[at]  # most items are a group of their own
    larger = np.fromiter((group.id != item.id for item, group in placed), np.bool_, len(placed))
    groups[at[larger]] = digests_of(placed[place][1].id for place in np.flatnonzero(larger).tolist())
    split[at] = np.fromiter(map(numbers.__getitem__, [id(group.split) for _, group in placed]), np.int8, len(placed))
    row[at[gathered.order]] = np.arange(len(placed), dtype=np.int32)
    return {
        **columns,
        "ids": ids,
        "groups": groups,
        "split": split,
        "row": row,
        "text": _texts(ties, len(items)),
        "told": digests.told([items[place] for place in ties.first]),
        **gathered.shared.arrays,
        "near": pairs_array(ties.near),
        "overlaps": pairs_array(ties.overlaps),
        **arrays_of(ties.index, ties.runs),
    }
