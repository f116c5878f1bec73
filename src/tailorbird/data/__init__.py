"""Data: files into a frozen snapshot, in which no row is lost, repeated or on two sides of a split.

    inspection (before an objective exists)
    readers → pipeline (curation · privacy · quality · contamination · duplicates · splits) → snapshot_writer → snapshot
    provenance (amendments, seal, rewrite)   label_errors

In: the files, folders and addresses that an objective names, and the splits of earlier rows. Out: rows by split, a manifest by digest, and
every refused row with its reason. Must not know: models, metrics, the ledger.
"""

from tailorbird.data.inspection import file_texts, inspect_file
from tailorbird.data.label_errors import label_suspects
from tailorbird.data.provenance import (
    Amendments,
    SnapshotRewrite,
    documents_of_subject,
    load_documents,
    members_of,
    prove_documents,
    prove_rows,
    quarantine_unanswerable,
    rewrite_snapshot,
    rows_of_subject,
    salt_of,
    stored_rows,
)
from tailorbird.data.readers.cells import without_documents
from tailorbird.data.readers.formats import start_parser
from tailorbird.data.readers.sources import SourceRow, SourceRows, fingerprint_sources, read_column, read_sources, row_id
from tailorbird.data.snapshot import (
    BuiltSnapshot,
    SnapshotRequest,
    answer_items,
    build_snapshot,
    group_sizes,
    items_of_split,
    load_items,
    load_quarantine,
    load_rows,
)

__all__ = [
    "Amendments",
    "BuiltSnapshot",
    "SnapshotRequest",
    "SnapshotRewrite",
    "SourceRow",
    "SourceRows",
    "answer_items",
    "build_snapshot",
    "documents_of_subject",
    "file_texts",
    "fingerprint_sources",
    "group_sizes",
    "inspect_file",
    "items_of_split",
    "label_suspects",
    "load_documents",
    "load_items",
    "load_quarantine",
    "load_rows",
    "members_of",
    "prove_documents",
    "prove_rows",
    "quarantine_unanswerable",
    "read_column",
    "read_sources",
    "rewrite_snapshot",
    "row_id",
    "rows_of_subject",
    "salt_of",
    "start_parser",
    "stored_rows",
    "without_documents",
]
