"""Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from support.data_files import read, refused, write_parquet


def test_nothing_but_the_named_columns_of_parquet_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", a=["x"] * 3, b=["y"] * 3, picture=[b"\xff"] * 3)
    assert len(read(tmp_path, "d.parquet", text="a", label="b").rows) == 3
    error = refused(tmp_path, "d.parquet", text="a", label="picturs")
    assert (error.error_code, "'a', 'b', 'picture'" in error.hint) == ("column_missing", True)
    assert refused(tmp_path, "d.parquet").error_code == "column_missing"


def test_parquet_rows_that_are_no_text_are_quarantined(tmp_path: Path) -> None:
    broken = pa.array([b"fine", b"caf\xe9 secret", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "d.parquet", text=broken, label=["a", "b", None])
    assert refused(tmp_path, "d.parquet").error_code == "data_invalid"
    write_parquet(tmp_path / "d.parquet", text=pa.concat_arrays([broken, broken.slice(0, 1)]), label=["a", "b", None, "a"])
    entries = read(tmp_path, "d.parquet").quarantined
    assert [(entry.line, entry.code) for entry in entries] == [(2, "broken_text"), (3, "missing_cell")]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", text=["x"] * 50, label=["a"] * 50)
    for data in (b"PAR1 and then nothing of use", b"text,label\n", (tmp_path / "d.parquet").read_bytes()[:-40]):
        (tmp_path / "d.parquet").write_bytes(data)
        assert refused(tmp_path, "d.parquet").error_code == "file_broken"
