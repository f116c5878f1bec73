"""State writer: saves what an incremental build needs after a full build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.split_groups import TextTies
from tailorbird.data.incremental.appended_rows import size_of, source_facts
from tailorbird.data.incremental.conditions import KnownArrays, conditions, first_end, is_appendable, known_arrays, known_digest
from tailorbird.data.incremental.index_merge import arrays_of, pairs_array
from tailorbird.data.incremental.state import forget, save_facts, save_rows
from tailorbird.data.item_columns import Columns
from tailorbird.data.pipeline import PipelineResult, SnapshotRequest
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
            "retain": first_end(place.retain_until for place in places),
            "terms": terms_of(places),
            **names,
        }
        arrays = _arrays(gathered, columns)
        at = np.empty(len(gathered.rows.order), np.intp)
        placed = np.flatnonzero(arrays["row"] >= 0)
        at[arrays["row"][placed]] = placed  # in the order of the ids
        self._placed = KnownArrays(arrays["ids"][at], arrays["groups"][at], arrays["split"][at].astype(np.uint8))
        self._token = save_rows(request.memory, arrays)
        self._facts = facts if self._token else {}

    def finish(self, frozen: WrittenSnapshot, assigned: Assigned) -> None:
        """Saves the split assignment and the manifest."""
        if self._request.memory is None or not self._facts:
            return
        facts = self._facts | {
            "known": self._known_with(assigned),
            "manifest": frozen.manifest.model_dump(mode="json"),
        }
        save_facts(self._request.memory, self._token, facts, {"bytes": frozen.lengths_M, "leaves": frozen.leaves_MB})

    def _known_with(self, assigned: Assigned) -> str:
        """The digest of the assignment of all rows, earlier ones too; empty where ids are no digests."""
        earlier = {row: place for row, place in self._request.known.items() if row not in assigned}
        if not earlier:
            return known_digest(self._placed, ordered=True)
        others = known_arrays(earlier)
        return known_digest(self._placed.joined(others) if others else None)


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


def _texts(ties: TextTies, size: int) -> NDArray[np.int32]:
    """The number of each item's text."""
    text_N = np.empty(size, np.int32)
    text_N[np.asarray(ties.first, np.intp)] = np.arange(len(ties.first), dtype=np.int32)
    for first, *others in ties.same:
        text_N[others] = text_N[first]
    return text_N


def _arrays(gathered: PipelineResult, columns: Columns) -> dict[str, NDArray[Any]]:
    items, assigned, ties = gathered.items, gathered.rows.columns, gathered.text_ties
    assert ties is not None
    assert assigned is not None
    return {
        **columns,
        "ids": gathered.prepared.digests.ids(items),
        "groups": assigned.groups_ND,
        "split": assigned.split_N,
        "row": assigned.row_N,
        "text": _texts(ties, len(items)),
        "told": gathered.prepared.digests.told([items[place] for place in ties.first]),
        **gathered.shared.arrays,
        "near": pairs_array(ties.near),
        "overlaps": pairs_array(ties.overlaps),
        **arrays_of(ties.index, ties.runs),
    }
