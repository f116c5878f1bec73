"""Which reader takes which kind of file.

In: nothing. Out: the readers, which parse in the process that calls them: only a confined one does (``confined``). Must not know: where
files come from.
"""

from __future__ import annotations

from tailorbird.data.reading.csv_file import read_csv, read_tsv
from tailorbird.data.reading.json_file import read_json
from tailorbird.data.reading.jsonl_file import read_jsonl
from tailorbird.data.reading.parquet_file import read_parquet
from tailorbird.data.reading.record import Reader
from tailorbird.data.reading.text_folder import FOLDER, read_folder

#: Kind of file (its suffix) to what reads it.
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    FOLDER: read_folder,
}
