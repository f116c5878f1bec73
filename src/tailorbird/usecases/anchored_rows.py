"""Checks that rows are as the event log anchors them, before anything rests on them."""

from __future__ import annotations

from tailorbird.crypto.anchored_rows import anchored_row, row_changed
from tailorbird.domain.identity import Identity
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import UnitOfWork


def demand_anchored(work: UnitOfWork, *values: Value) -> None:
    """Returns when each of ``values``, as it was read in this transaction, is what the log says.

    Raises Corrupt, naming the rows that differ; NotFound where this machine cannot check the log's seal.
    """
    differing = work.anchors.differing({row.name: row.digest for row in map(anchored_row, values)})
    if differing:
        raise row_changed(work.tenant, differing)


def anchored_identities(work: UnitOfWork) -> tuple[Identity, ...]:
    """All identities of the tenant, for rules that ask who is there: one that was deleted from the record is missed.

    Raises as ``demand_anchored``.
    """
    people = work.identities.all()
    found = {row.name: row.digest for row in map(anchored_row, people)}
    told = work.anchors.all_of("identity")
    differing = sorted(name for name in found.keys() | told.keys() if found.get(name) != told.get(name))
    if differing:
        raise row_changed(work.tenant, differing)
    return people
