"""Exact and near duplicates: what is kept once, and what must stay in one split.

    exact · shared_text → text_index → near_duplicates → split_groups → components

In: rows as read. Out: distinct items, and ties between them. Must not know: split shares, artifacts.
"""

from tailorbird.data.duplicates.near_duplicates import SCHEME, near_duplicates

__all__ = ["SCHEME", "near_duplicates"]
