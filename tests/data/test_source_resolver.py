"""Addresses and paths opened as data files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from support.data import make_objective
from support.data_files import NAMES, fill, read, refused
from tailorbird.data import fingerprint_sources
from tailorbird.domain.errors import Unavailable


@pytest.fixture
def memory() -> Iterator[Any]:
    """The storage behind ``memory://``, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


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
        ("file:///etc/hostname.csv", "data_invalid"),
        ("simplecache::s3://b/d.csv", "data_invalid"),
        ("https://ann:secret@example.org/d.csv", "data_invalid"),
        ("https://example.org/d.csv?token=secret", "data_invalid"),
        ("hf://datasets/../name", "data_invalid"),
        ("memory://bucket/none.csv", "file_missing"),
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


@pytest.mark.parametrize(
    "name",
    [
        "d.xlsx",
        "d.zip",
    ],
)
def test_other_kinds_of_file_say_which_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert refused(tmp_path, name).error_code == "file_kind"
