"""Readers: files, folders and addresses, record by record into rows with provenance.

    source_resolver → data_file → formats (in a sandbox) → sources (cells)

In: the files, folders and addresses that an objective names. Out: rows, and every unusable record with its reason. Must not know:
duplicates, splits, snapshots.
"""
