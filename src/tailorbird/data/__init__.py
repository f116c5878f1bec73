"""The data room: files into a frozen snapshot, in which nothing is lost, repeated or on two sides of a split.

    reading/ (files, folders, addresses → rows) → duplicates → classes → ties → placing → coverage → snapshot

In: the files, folders and addresses that an objective names, and where earlier rows went. Out: rows by split, a manifest by digest, every
refused row with its reason. Must not know: models, metrics, the ledger.
"""

from tailorbird.data.reading import SourceRow, SourceRows, fingerprint_sources, read_sources
from tailorbird.data.snapshot import BuiltSnapshot, SnapshotRequest, build_snapshot, load_rows

__all__ = [
    "BuiltSnapshot",
    "SnapshotRequest",
    "SourceRow",
    "SourceRows",
    "build_snapshot",
    "fingerprint_sources",
    "load_rows",
    "read_sources",
]
