"""Which reader takes which kind of file."""

from __future__ import annotations

from tailorbird.data.readers.csv_file import read_csv, read_tsv
from tailorbird.data.readers.json_files import read_json, read_jsonl
from tailorbird.data.readers.parquet_file import read_parquet
from tailorbird.data.readers.record import Reader
from tailorbird.data.readers.text_files import FOLDER, read_folder

#: Kind of file (its suffix) to what reads it.
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    FOLDER: read_folder,
}
