"""The life of data beside the climb: snapshots are found, shown, compared and fixed; people are erased from them; all of it on record.

In: an actor and what they ask. Out: snapshots, reports, certificates. Must not know: how rows are read or split (``data/``), HTTP,
terminals.
"""
