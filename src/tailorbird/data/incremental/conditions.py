"""Conditions under which a build is a plain append: same objective, methods, erasures, decisions and earlier rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.crypto.digest_arrays import digests_of, order_of
from tailorbird.data.incremental.state import NotAnAppend
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.provenance import salt_of
from tailorbird.domain.dataset import Split
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.value import Digest

#: Splits by their number in arrays.
SPLITS = tuple(Split)
Known = Mapping[Digest, tuple[str, str]]


def is_appendable(request: SnapshotRequest) -> bool:
    """True where rows are told apart by their own texts only: no evaluation sets beside them, no documents, nothing thinned out, no
    shifted part, no column of splits, by which later rows decide about earlier ones."""
    objective = request.objective
    if any(source.split_column for source in objective.data):
        return False
    plain = not objective.curation.protected and objective.curation.near_duplicates == "group" and not objective.documents
    names = [source.path for source in objective.data]
    return plain and objective.split is None and objective.task.kind is not TaskKind.RANK and len(set(names)) == len(names)


def conditions(request: SnapshotRequest, schemes: Mapping[str, str]) -> dict[str, Any]:
    """Fingerprint of everything beside the files that decides about a row: objective, method versions, erasures, decisions."""
    amendments = request.amendments
    return {
        "objective": digest_of(request.objective.model_copy(update={"data": ()})),
        "schemes": dict(schemes),
        "secret": digest_bytes(salt_of(amendments.secret, request.objective.name)),
        "erased": digest_of(sorted(amendments.erased)),
        "decisions": digest_of([digest_of(amendments.decisions[row]) for row in sorted(amendments.decisions)]),
    }


def check_retention(facts: Mapping[str, Any], today: date | None) -> None:
    """Raises NotAnAppend when retention of an earlier row has ended since."""
    if today and facts["retain"] and date.fromisoformat(facts["retain"]) < today:
        raise NotAnAppend("retention of earlier rows has ended")


def first_end(days: Iterable[date | None]) -> str:
    """The first of the days on which retention ends; empty where there is none."""
    return min((day.isoformat() for day in days if day), default="")


class KnownArrays(NamedTuple):
    """Split assignment of earlier rows: ids and groups uint8[K, 32], number of the split uint8[K]."""

    ids: NDArray[np.uint8]
    groups: NDArray[np.uint8]
    splits: NDArray[np.uint8]

    def joined(self, later: KnownArrays) -> KnownArrays:
        """These and later assignments."""
        return KnownArrays(*(np.concatenate(both) for both in zip(self, later, strict=True)))


def known_arrays(known: Known) -> KnownArrays | None:
    """Split assignment as arrays; None where ids are no digests."""
    numbers = {split.value: number for number, split in enumerate(SPLITS)}
    try:
        ids, groups = digests_of(known), digests_of(map(itemgetter(1), known.values()))
    except ValueError:
        return None
    return KnownArrays(ids, groups, np.fromiter(map(numbers.__getitem__, map(itemgetter(0), known.values())), np.uint8, len(known)))


def known_digest(known: KnownArrays | None, *, ordered: bool = False) -> str:
    """Digest of a split assignment, whatever its order; empty where it is not known. ``ordered`` where it is in the order of the ids."""
    if known is None:
        return ""
    order = slice(None) if ordered else order_of(known.ids)
    hashed = hashlib.sha256()
    for array in known:
        hashed.update(array[order].tobytes())
    return hashed.hexdigest()


def found_in(ids_ND: NDArray[np.uint8], sought_KD: NDArray[np.uint8]) -> dict[bytes, int]:
    """Those of ``sought_KD`` that are among ``ids_ND``, with their place there."""
    if not len(sought_KD) or not len(ids_ND):
        return {}
    first_N = np.ascontiguousarray(ids_ND[:, :8]).view(np.uint64)[:, 0]
    wanted_K = np.unique(np.ascontiguousarray(sought_KD[:, :8]).view(np.uint64)[:, 0])
    at_N = np.minimum(np.searchsorted(wanted_K, first_N), len(wanted_K) - 1)
    wanted = {sought.tobytes() for sought in sought_KD}
    near = ((ids_ND[place].tobytes(), place) for place in np.flatnonzero(wanted_K[at_N] == first_N).tolist())
    return {found: place for found, place in near if found in wanted}
