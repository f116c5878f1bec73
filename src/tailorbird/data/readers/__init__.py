"""Intake: what a team really has, read record by record into rows with provenance.

    data_file → text_file → csv_file | jsonl_file | json_file | parquet_file | text_folder → formats → parsing (in a confined process)
    remote | hub → locating → confined → cells | chat → making → sources; texts

In: the files, folders and addresses that an objective names. Out: rows, and every record that could not become one, with its reason. Must
not know: duplicates, splits, snapshots.
"""

from tailorbird.data.readers.source_row import SourcePlace, SourceRow, SourceRows, row_id
from tailorbird.data.readers.sources import fingerprint_sources, read_sources, refuse_if_most, source_of
from tailorbird.data.readers.text_column import read_texts

__all__ = [
    "SourcePlace",
    "SourceRow",
    "SourceRows",
    "fingerprint_sources",
    "read_sources",
    "read_texts",
    "refuse_if_most",
    "row_id",
    "source_of",
]
