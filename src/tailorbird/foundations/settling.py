"""An open question and what would settle it, in words.

In: a number of items. Out: a clause. Must not know: which question is open.
"""

from __future__ import annotations

#: Nobody collects more items than this to tell two candidates apart: what would take more stands on the line itself.
MOST_ITEMS = 1_000_000


def what_settles(items_needed: int | None) -> str:
    """``410 more items would settle it``; that none would, beyond a million; empty where nothing is open or no number is known."""
    if not items_needed:
        return ""
    if items_needed > MOST_ITEMS:
        return f"it lies too near the line to settle: not with {MOST_ITEMS:,} more items"
    return f"{items_needed:,} more items would settle it"
