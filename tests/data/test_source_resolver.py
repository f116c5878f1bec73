"""Addresses and paths opened as data files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data import make_objective
from tailorbird.data import SourceRows, fingerprint_sources, read_sources
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.objective import TaskKind

CELLS = [(f"message number {n}, said\nso", "ab"[n % 2]) for n in range(20)]


def as_csv(separator: str = ",") -> str:
    return f"text{separator}label\n" + "".join(f'"{text}"{separator}{label}\n' for text, label in CELLS)


def as_json() -> str:
    return json.dumps([{"text": text, "label": label} for text, label in CELLS], indent=1)


def write_parquet(path: Path, **columns: Any) -> None:
    parquet.write_table(pa.table(columns), path, row_group_size=7)


def write_folder(folder: Path) -> None:
    for number, (text, label) in enumerate(CELLS):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:02}.txt").write_text(text, encoding="utf-8")


def fill(folder: Path) -> None:
    (folder / "d.csv").write_text(as_csv())
    (folder / "d.tsv").write_text(as_csv("\t"))
    (folder / "d.json").write_text(as_json())
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in CELLS))
    write_parquet(folder / "d.parquet", text=[text for text, _ in CELLS], label=[label for _, label in CELLS], other=[b"x"] * len(CELLS))
    write_folder(folder / "d")


NAMES = ("d.csv", "d.tsv", "d.json", "d.jsonl", "d.parquet", "d")


@pytest.fixture
def memory() -> Iterator[Any]:
    """The storage behind ``memory://``, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def read(folder: Path, path: str, kind: TaskKind = TaskKind.CLASSIFY, **source: str) -> SourceRows:
    return read_sources(make_objective({"path": path, **source}, kind=kind), folder)


def refused(folder: Path, path: str, **source: str) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        read(folder, path, **source)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_come_from_an_address(tmp_path: Path, name: str, memory: Any) -> None:
    fill(tmp_path)
    memory.put(str(tmp_path / name), f"/bucket/{name}", recursive=True)
    here, there = read(tmp_path, name), read(tmp_path, f"memory://bucket/{name}")
    assert [(row.text, row.target, row.provenance.line) for row in there.rows] == [
        (row.text, row.target, row.provenance.line) for row in here.rows
    ]
    assert there.files == {f"memory://bucket/{name}": here.files[name]}
    assert fingerprint_sources(make_objective({"path": f"memory://bucket/{name}"}), tmp_path) == there.files
    assert there.rows[0].provenance.file.startswith(f"memory://bucket/{name}")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("file:///etc/hostname.csv", "address_protocol"),
        ("http://example.org/d.csv", "address_protocol"),
        ("simplecache::s3://b/d.csv", "address_protocol"),
        ("https://ann:secret@example.org/d.csv", "address_credentials"),
        ("https://example.org/d.csv?token=secret", "address_credentials"),
        ("s3://key:secret@bucket/d.csv", "address_credentials"),
        ("hf://owner/name", "address_form"),
        ("hf://datasets/../name", "address_form"),
        ("hf://datasets/owner/name:split", "address_form"),
        ("hf://datasets/owner/name@a/../b", "address_form"),
        ("memory://bucket/none.csv", "file_missing"),
        ("memory://bucket/none", "file_missing"),
    ],
)
def test_addresses_that_are_not_taken(tmp_path: Path, path: str, code: str, memory: Any) -> None:
    error = refused(tmp_path, path)
    assert error.error_code == code
    assert "secret" not in error.message + error.hint


def test_a_storage_without_its_client_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(Unavailable) as caught:
        read(tmp_path, "az://container/d.csv")
    assert (caught.value.error_code, caught.value.hint) == ("package_missing", "pip install adlfs")
