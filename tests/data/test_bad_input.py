"""What teams really have: each kind of bad input is refused with its line, or set aside with its reason, and never a crash."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from support.data import build, make_objective
from tailorbird.data import SourceRows, inspect_file, read_sources
from tailorbird.data.readers import data_file, formats
from tailorbird.data.readers.data_file import open_file
from tailorbird.domain.dataset import Inspection
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


def looked_at(folder: Path, name: str, content: bytes) -> Inspection:
    (folder / name).write_bytes(content)
    return inspect_file(name, folder, lambda _: None)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, b"PK\3\4\x14\0\0\0\x08\0" * 50, bytes(range(256)) * 9])
def test_a_binary_file_named_csv(tmp_path: Path, content: bytes) -> None:
    error = refused(tmp_path, "d.csv", content)
    assert error.error_code in ("file_binary", "file_encoding")
    with pytest.raises(DataInvalid, match="binary content"):
        looked_at(tmp_path, "d.csv", content)


def test_nul_bytes(tmp_path: Path) -> None:
    error = refused(tmp_path, "d.csv", csv_of().replace("quick", "qu\0ck").encode())
    assert (error.error_code, error.message) == ("file_binary", "d.csv:3: binary content, not text")


def test_mixed_encodings_are_refused_where_they_begin(tmp_path: Path) -> None:
    text = csv_of().encode() + "café,a\n".encode() + "naïve,b\n".encode("latin-1")
    error = refused(tmp_path, "d.csv", text)
    assert error.message == "d.csv:63: not UTF-8"
    assert "`encoding`" in error.hint


def test_an_encoding_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "d.csv", csv_of().encode(), encoding="utf-9").error_code == "file_encoding"


def test_a_line_of_fifty_megabytes_is_set_aside(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows()]
    lines.insert(3, json.dumps({"text": "x" * 50_000_000, "label": "a"}))
    found = read(tmp_path, "d.jsonl", "\n".join(lines).encode())
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(4, "record_too_long")]
    assert len(found.rows) == 60


def test_a_line_that_never_ends_is_refused_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.data.readers.data_file.LONGEST_LINE", 10_000)
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "' + b"x" * 100_000)
    with open_file("d.jsonl", tmp_path / "d.jsonl", ".jsonl") as file, pytest.raises(DataInvalid) as caught:
        list(formats.read_jsonl(file, ()))
    assert (caught.value.error_code, caught.value.message) == ("line_too_long", "d.jsonl:1: a line of more than 10,000 characters")


def test_nested_json_where_text_is_expected(tmp_path: Path) -> None:
    nested = [{"text": {"de": "hallo"}, "label": "a"}, {"text": ["a"], "label": "a"}]
    lines = [json.dumps(row) for row in [*rows(), *nested]]
    found = read(tmp_path, "d.jsonl", "\n".join(lines).encode())
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(61, "wrong_type"), (62, "wrong_type")]


def test_columns_of_one_name(tmp_path: Path) -> None:
    assert refused(tmp_path, "d.csv", b"text,label,text\na,b,c\n").error_code == "file_broken"


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


def test_a_zip_bomb_in_a_folder_is_not_opened(tmp_path: Path) -> None:
    for number, row in enumerate(rows()):
        (tmp_path / "d" / row["label"]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / row["label"] / f"{number}.txt").write_text(row["text"])
    with zipfile.ZipFile(tmp_path / "d" / "a" / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"\0" * 50_000_000)
    found = read_sources(make_objective({"path": "d"}), tmp_path)
    assert [(entry.file, entry.code) for entry in found.quarantined] == [("d/a/bomb.zip", "file_kind")]
    assert len(found.rows) == 60


def test_a_text_that_is_too_large_in_a_folder_is_set_aside_unread(tmp_path: Path) -> None:
    for number, row in enumerate(rows()):
        (tmp_path / "d" / row["label"]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / row["label"] / f"{number}.txt").write_text(row["text"])
    (tmp_path / "d" / "a" / "huge.txt").write_text("x" * (data_file.LARGEST + 1))
    found = read_sources(make_objective({"path": "d"}), tmp_path)
    assert [(entry.file, entry.code) for entry in found.quarantined] == [("d/a/huge.txt", "file_too_large")]


def _peak(folder: Path, name: str) -> tuple[int, str]:
    """Most memory of a process that reads ``name``, above what it takes to start, and the code of the error."""
    code = (
        "import sys; from pathlib import Path; import pyarrow.parquet\n"
        "from tailorbird.data import read_sources; from tailorbird.domain.errors import DataInvalid\n"
        "from support.data import make_objective; from support.memory import Growth\n"
        "growth, told = Growth(), ''\n"
        "try: read_sources(make_objective({'path': sys.argv[2]}), Path(sys.argv[1]))\n"
        "except DataInvalid as error: told = error.error_code\n"
        "print(growth.bytes, told)"
    )
    run = [sys.executable, "-c", code, str(folder), name]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    grown, _, told = done.stdout.strip().partition(" ")
    return int(grown), told


def test_a_parquet_file_that_repeats_one_long_text_is_refused_in_little_memory(tmp_path: Path) -> None:
    long = pyarrow.array(["x" * 1_000_000])
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20_000, pyarrow.int32()), long)
    label = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 1] * 10_000, pyarrow.int32()), pyarrow.array(["a", "b"]))
    parquet.write_table(pyarrow.table({"text": text, "label": label}), tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    peak, told = _peak(tmp_path, "bomb.parquet")
    assert told == "file_expands"
    assert peak < 200_000_000


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
