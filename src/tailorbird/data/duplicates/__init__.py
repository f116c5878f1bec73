"""Exact and near duplicates: what is kept once, and what must stay in one split.

    exact · shared_text → minhash → near_duplicates → components

In: rows as read. Out: distinct items, and ties between them. Must not know: split shares, artifacts.
"""
