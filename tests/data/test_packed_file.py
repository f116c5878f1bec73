"""Compressed files are read as what is in them, and cannot fill a disk."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from support.data import make_objective
from support.data_files import CELLS, as_csv, refused
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import file_texts, fingerprint_sources, inspect_file, read_sources


def put(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.csv.gz", gzip.compress(as_csv().encode())),
        ("d.CSV.GZ", gzip.compress(as_csv()[:100].encode()) + gzip.compress(as_csv()[100:].encode())),
    ],
)
def test_what_is_packed_is_read(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path, name, data)
    found = inspect_file(name, tmp_path, lambda _: None)
    assert (found.kind, found.rows, found.digest) == ("csv", len(CELLS), digest_bytes(data))
    objective = make_objective({"path": name})
    read = read_sources(objective, tmp_path)
    assert [(row.text, row.target) for row in read.rows] == CELLS
    assert read.files == fingerprint_sources(objective, tmp_path) == {name: digest_bytes(data)}
    assert CELLS[3][0] in set(file_texts(path, "an uploaded file"))


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("d.csv.gz", gzip.compress(as_csv().encode())[:-20], "file_broken"), ("d.csv.gz.gz", gzip.compress(b"x"), "file_kind")],
)
def test_what_cannot_be_unpacked_is_refused(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    put(tmp_path, name, data)
    assert refused(tmp_path, name).error_code == code
