"""Data: files into a frozen snapshot, in which no row is lost, repeated or on two sides of a split.

    inspection (before an objective exists)
    readers → pipeline (curation · privacy · quality · contamination · duplicates · splits) → snapshot_writer → snapshot
    provenance (amendments, seal, rewrite)   label_errors

In: the files, folders and addresses that an objective names, and the splits of earlier rows. Out: rows by split, a manifest by digest, and
every refused row with its reason. Must not know: models, metrics, the ledger.
"""

from tailorbird.data.inspection import FolderFiles, beside, file_texts, folder_files, inspect_file
from tailorbird.data.label_errors import label_suspects
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.provenance import Amendments, members_of, prove_documents, prove_rows, salt_of
from tailorbird.data.provenance.apply_amendments import quarantine_unanswerable
from tailorbird.data.provenance.snapshot_rewrite import (
    SnapshotRewrite,
    documents_of_subject,
    rewrite_snapshot,
    rows_of_subject,
    stored_rows,
)
from tailorbird.data.readers import SourceRow, SourceRows, fingerprint_sources, read_sources, row_id
from tailorbird.data.readers.cells import split_of_file
from tailorbird.data.readers.confined_reader import start_parser
from tailorbird.data.readers.qrels import without_documents
from tailorbird.data.readers.sources import read_column
from tailorbird.data.snapshot import (
    BuiltSnapshot,
    answer_items,
    build_snapshot,
    group_sizes,
    items_of_split,
    load_documents,
    load_items,
    load_quarantine,
    load_rows,
)

__all__ = [
    "Amendments",
    "BuiltSnapshot",
    "FolderFiles",
    "SnapshotRequest",
    "SnapshotRewrite",
    "SourceRow",
    "SourceRows",
    "answer_items",
    "beside",
    "build_snapshot",
    "documents_of_subject",
    "file_texts",
    "fingerprint_sources",
    "folder_files",
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
    "split_of_file",
    "start_parser",
    "stored_rows",
    "without_documents",
]
