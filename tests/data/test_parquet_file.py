"""Parquet files."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from support.data_files import read, refused, write_parquet
from tailorbird.data import inspect_file


def test_nothing_but_the_named_columns_of_parquet_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", a=["x"] * 3, b=["y"] * 3, picture=[b"\xff"] * 3)
    assert len(read(tmp_path, "d.parquet", text="a", label="b").rows) == 3
    error = refused(tmp_path, "d.parquet", text="a", label="picturs")
    assert error.hint == "set `label: picture`? the file has: 'a', 'b', 'picture'"
    assert refused(tmp_path, "d.parquet").error_code == "column_missing"


def test_parquet_rows_that_are_no_text_are_quarantined(tmp_path: Path) -> None:
    broken = pa.array([b"fine", b"caf\xe9 secret", b"fine"]).cast(pa.binary()).view(pa.string())
    write_parquet(tmp_path / "d.parquet", text=broken, label=["a", "b", None])
    assert refused(tmp_path, "d.parquet").error_code == "data_invalid"
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


def test_columns_of_any_type_are_inspected_and_bytes_are_texts(tmp_path: Path) -> None:
    """A decimal or a map in a column that nobody asks for made the file a damaged one."""
    odd = {
        "amount": pa.array([Decimal("1.25")] * 9),
        "picture": pa.array([b"\x00\xff"] * 9),
        "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 9, pa.timestamp("ns", "UTC")),
        "time": pa.array([time(1, 2)] * 9),
        "took": pa.array([timedelta(seconds=3)] * 9),
        "keys": pa.array([[("k", b"v")]] * 9, pa.map_(pa.string(), pa.binary())),
        "inner": pa.array([{"days": [datetime(2024, 1, 1, tzinfo=UTC)], "cost": Decimal("1.5")}] * 9),
    }
    texts = [f"text {n}".encode() for n in range(9)]
    write_parquet(tmp_path / "d.parquet", text=pa.array(texts), label=pa.array(list("abcabcabc")).dictionary_encode(), **odd)
    found = inspect_file("d.parquet", tmp_path, lambda _: None)
    assert (found.rows, {guess.role: guess.column for guess in found.guesses}["text"]) == (9, "text")
    assert {column.name: column.kind for column in found.columns}["keys"] == "object"
    assert [row.text for row in read(tmp_path, "d.parquet").rows] == [text.decode() for text in texts]


def test_times_that_python_cannot_hold_are_numbers(tmp_path: Path) -> None:
    """Of nanoseconds, or of a year past 9999, which no reader of rows needs."""
    odd = {"short": pa.array([1] * 20, pa.duration("ns")), "late": pa.array([10**12] * 20, pa.timestamp("s"))}
    write_parquet(tmp_path / "d.parquet", text=["where is my parcel", "my bill is wrong"] * 10, label=["a", "b"] * 10, **odd)
    assert inspect_file("d.parquet", tmp_path, lambda _: None).rows == 20


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 384), pa.large_list(pa.float16())])
def test_vectors_are_looked_at_by_their_first_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    """Each number of each was walked, though no role is guessed from it."""
    vectors = pa.array([[0.5] * 384, None, [0.25] * 384] * 7).cast(kind)
    write_parquet(tmp_path / "d.parquet", text=[f"where is parcel {n}" for n in range(21)], label=["a", "b", "c"] * 7, vector=vectors)
    found = inspect_file("d.parquet", tmp_path, lambda _: None)
    vector = next(column for column in found.columns if column.name == "vector")
    assert (vector.kind, vector.filled, vector.longest < 100) == ("list", 14, True)
    assert {guess.role: guess.column for guess in found.guesses} == {"text": "text", "label": "label"}
