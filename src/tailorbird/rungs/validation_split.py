"""A part of the training rows set aside to choose by, so that dev and test stay untouched by any choice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid

#: Share of the rows that is held out, and the most it may come to where groups are large.
SHARE, MOST = 0.10, 0.20
#: What is held out chooses among a handful of checkpoints, rows paired: beyond this many, rows are left to learn from.
ENOUGH = 400


def hold_out(rows: Sequence[Row], seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Splits ``rows`` into (to learn from, held out), by the hash of seed and group; the order of rows changes nothing.

    Groups are taken in the order of their hashes until a tenth of the rows, or 400 of them, is held out; one that would hold out more than
    a fifth is passed over, unless all would. Raises DataInvalid when all rows are of one group.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        groups[row.group].append(row)
    if len(groups) < 2:
        raise DataInvalid(
            f"the {len(rows)} training rows are of one group, so none can be held out",
            "collect rows that are not near-duplicates, or of more than one subject",
            code="one_group",
        )
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    chosen = _choose(order, {group: len(members) for group, members in groups.items()}, len(rows))
    learn = tuple(row for group in order if group not in chosen for row in groups[group])
    return learn, tuple(row for group in order if group in chosen for row in groups[group])


def _choose(order: list[str], sizes: dict[str, int], total: int) -> set[str]:
    chosen: set[str] = set()
    held = 0
    for group in order:
        if held >= min(SHARE * total, ENOUGH):
            break
        if held + sizes[group] <= max(1.0, MOST * total):
            chosen.add(group)
            held += sizes[group]
    return chosen or {min(order, key=lambda group: sizes[group])}
