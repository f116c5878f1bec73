"""Readers: files, folders and addresses, record by record into rows with provenance.

    source_resolver (hub) → data_file → confined_reader (csv_file | json_files | parquet_file | text_files | qrels)
    → cells → source_rows → sources; documents

In: the files, folders and addresses that an objective names. Out: rows, and every unusable record with its reason. Must not know:
duplicates, splits, snapshots.
"""

from tailorbird.data.readers.source_rows import SourcePlace, SourceRow, SourceRows, id_of, row_id
from tailorbird.data.readers.sources import fingerprint_sources, read_sources, read_texts, refuse_if_most, source_of

__all__ = [
    "SourcePlace",
    "SourceRow",
    "SourceRows",
    "fingerprint_sources",
    "id_of",
    "read_sources",
    "read_texts",
    "refuse_if_most",
    "row_id",
    "source_of",
]
