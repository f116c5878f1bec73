"""Rows that say the same, or nearly: what is kept once, and what must stay on one side of a split.

    signatures · likeness → near; exact · shared → ties

In: rows as read. Out: distinct items, and ties between them. Must not know: splits' shares, artifacts.
"""

from tailorbird.data.duplicates.near import SCHEME, near_duplicates

__all__ = ["SCHEME", "near_duplicates"]
