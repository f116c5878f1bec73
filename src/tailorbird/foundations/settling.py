"""An open question and what would settle it, in words.

In: a number of items, a comparison. Out: a clause. Must not know: which question is open.
"""

from __future__ import annotations

from tailorbird.domain.evidence import Comparison, Standing

#: Nobody collects more items than this to tell two candidates apart: what would take more stands on the line itself.
MOST_ITEMS = 1_000_000


def what_settles(items_needed: int | None) -> str:
    """``410 more items would settle it``; that none would, beyond a million; empty where nothing is open or no number is known."""
    if not items_needed:
        return ""
    if items_needed > MOST_ITEMS:
        return f"it lies too near the line to settle: not with {MOST_ITEMS:,} more items"
    return f"{items_needed:,} more items would settle it"


def settles_comparison(found: Comparison) -> str:
    """What would settle a comparison: nothing, where it is known that the upper one is not better: more items would only tell by how much
    it is worse."""
    if found.standing is Standing.NOT_PROVEN and found.is_loss:
        return "more items would only tell by how much it is worse"
    return what_settles(found.items_needed)
