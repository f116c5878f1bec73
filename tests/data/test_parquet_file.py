"""Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data import make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind


def write_parquet(path: Path, **columns: Any) -> None:
    parquet.write_table(pa.table(columns), path, row_group_size=7)


def read(folder: Path, path: str, kind: TaskKind = TaskKind.CLASSIFY, **source: str) -> SourceRows:
    return read_sources(make_objective({"path": path, **source}, kind=kind), folder)


def refused(folder: Path, path: str, **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        read(folder, path, **source)
    assert caught.value.hint
    return caught.value


def test_nothing_but_the_named_columns_of_parquet_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", a=["x"] * 3, b=["y"] * 3, picture=[b"\xff"] * 3)
    assert len(read(tmp_path, "d.parquet", text="a", label="b").rows) == 3
    error = refused(tmp_path, "d.parquet", text="a", label="picturs")
    assert error.hint == "set `label: picture`? the file has: 'a', 'b', 'picture'"
    assert refused(tmp_path, "d.parquet").error_code == "column_missing"


def test_parquet_rows_that_are_no_text_are_quarantined(tmp_path: Path) -> None:
    broken = pa.array([b"fine", b"caf\xe9 secret", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "d.parquet", text=broken, label=["a", "b", None])
    assert refused(tmp_path, "d.parquet").error_code == "mostly_quarantined"
    write_parquet(tmp_path / "d.parquet", text=pa.concat_arrays([broken, broken.slice(0, 1)]), label=["a", "b", None, "a"])
    entries = read(tmp_path, "d.parquet").quarantined
    assert [(entry.line, entry.code) for entry in entries] == [(2, "broken_text"), (3, "missing_cell")]


@pytest.mark.parametrize("data", [b"PAR1 and then nothing of use", b"text,label\n"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.parquet").write_bytes(data)
    assert refused(tmp_path, "d.parquet").error_code == "file_broken"


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", text=["x"] * 50, label=["a"] * 50)
    (tmp_path / "d.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:-40])
    assert refused(tmp_path, "d.parquet").error_code == "file_broken"
