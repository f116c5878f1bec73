"""The data room: files into a frozen snapshot, in which nothing is lost, repeated or on two sides of a split.

    reading/ (files, folders, addresses → rows) → duplicates → classes → ties → placing → coverage → snapshot

In: the files, folders and addresses that an objective names, and where earlier rows went. Out: rows by split, a manifest by digest, every
refused row with its reason. Must not know: models, metrics, the ledger.
"""

from tailorbird.data.inspection import inspect
from tailorbird.data.label_errors import label_suspects
from tailorbird.data.pipeline import SnapshotRequest
from tailorbird.data.provenance import Amendments, members_of, prove_documents, prove_rows, salt_of
from tailorbird.data.provenance.apply_amendments import answer_gone
from tailorbird.data.provenance.snapshot_rewrite import Rewritten, documents_of_subject, rewrite, rows_of_subject, stored_rows
from tailorbird.data.readers import SourceRow, SourceRows, fingerprint_sources, read_sources, row_id
from tailorbird.data.readers.qrels import without
from tailorbird.data.snapshot import BuiltSnapshot, build_snapshot, group_sizes, load_documents, load_quarantine, load_rows

__all__ = [
    "Amendments",
    "BuiltSnapshot",
    "Rewritten",
    "SnapshotRequest",
    "SourceRow",
    "SourceRows",
    "answer_gone",
    "build_snapshot",
    "documents_of_subject",
    "fingerprint_sources",
    "group_sizes",
    "inspect",
    "label_suspects",
    "load_documents",
    "load_quarantine",
    "load_rows",
    "members_of",
    "prove_documents",
    "prove_rows",
    "read_sources",
    "rewrite",
    "row_id",
    "rows_of_subject",
    "salt_of",
    "stored_rows",
    "without",
]
