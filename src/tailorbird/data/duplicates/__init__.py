"""Rows that say the same, or nearly: what is kept once, and what must stay on one side of a split.

    exact → near → ties

In: rows as read. Out: distinct items, and ties between them. Must not know: splits' shares, artifacts.
"""
