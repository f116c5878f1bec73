"""What teams really have: each kind of bad input is refused with its line, or set aside with its reason, and never a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from support.data import build, make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.data.readers import formats
from tailorbird.data.readers.data_file import open_file
from tailorbird.domain.errors import DataInvalid

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "home"]


def rows(count: int = 60) -> list[dict[str, str]]:
    return [{"text": f"{WORDS[n % 12]} {WORDS[n * 7 % 12]} number {n * n}", "label": "ab"[n % 2]} for n in range(count)]


def csv_of(separator: str = ",", count: int = 60) -> str:
    return f"text{separator}label\n" + "".join(f"{row['text']}{separator}{row['label']}\n" for row in rows(count))


def read(folder: Path, name: str, content: bytes, **source: str) -> SourceRows:
    (folder / name).write_bytes(content)
    return read_sources(make_objective({"path": name, **source}), folder)


def refused(folder: Path, name: str, content: bytes, **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as error:
        read(folder, name, content, **source)
    assert error.value.hint
    return error.value


def test_mixed_encodings_are_refused_where_they_begin(tmp_path: Path) -> None:
    text = csv_of().encode() + "café,a\n".encode() + "naïve,b\n".encode("latin-1")
    error = refused(tmp_path, "d.csv", text)
    assert (error.error_code, error.message.partition(" ")[0]) == ("file_encoding", "d.csv:63:")


def test_labels_that_differ_only_by_case(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row | {"label": row["label"] + " "}) + "\n" for row in rows()))
    assert len(build(make_objective({"path": "d.jsonl"}), tmp_path).rows) == 60  # space around a label is no part of it
    shouting = [row | {"label": row["label"].upper() if n > 50 else row["label"]} for n, row in enumerate(rows())]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shouting))
    with pytest.raises(DataInvalid) as error:
        build(make_objective({"path": "d.jsonl"}), tmp_path)
    assert error.value.error_code == "labels_collide"


def test_all_rows_in_one_class_and_no_rows_left(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row | {"label": "a"}) + "\n" for row in rows()))
    with pytest.raises(DataInvalid) as error:
        build(make_objective({"path": "d.jsonl"}), tmp_path)
    assert error.value.error_code == "data_invalid"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row | {"text": " "}) + "\n" for row in rows()))
    with pytest.raises(DataInvalid) as error:
        build(make_objective({"path": "d.jsonl"}), tmp_path)
    assert error.value.error_code == "data_invalid"


def test_a_parquet_file_that_says_itself_that_it_bursts_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.data.readers.formats.MOST_BYTES", 1_000_000)
    texts = [f"{number}" + " " * 100_000 for number in range(200)]
    table = pyarrow.table({"text": texts, "label": ["a", "b"] * 100})
    parquet.write_table(table, tmp_path / "d.parquet", compression="zstd", use_dictionary=False)
    with open_file("d.parquet", tmp_path / "d.parquet", ".parquet") as file, pytest.raises(DataInvalid) as error:
        next(formats.read_parquet(file, ("text", "label")))
    assert error.value.error_code == "file_expands"


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(2000)))
    decoded = formats._decode_batch

    def meanwhile(entries: list[object], name: str) -> object:
        with (tmp_path / "d.jsonl").open("a") as other:
            other.write("{}\n")
        return decoded(entries, name)

    monkeypatch.setattr(formats, "_decode_batch", meanwhile)
    with pytest.raises(DataInvalid) as error:
        read_sources(make_objective({"path": "d.jsonl"}), tmp_path)
    assert error.value.error_code == "file_changed"
