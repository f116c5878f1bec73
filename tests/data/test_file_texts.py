"""Every text of a file is told, so that a person's words are found in it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tailorbird.data import file_texts
from tailorbird.domain.errors import DataInvalid

SAID = "my card was stolen\nlast night in Berlin"


@pytest.mark.parametrize(
    "content",
    [
        f'text,label\n"{SAID}",lost\n',
        "\n" * 5000 + json.dumps({"text": SAID}) + "\n",
        " " * 5000 + json.dumps([{"text": SAID}]),
    ],
)
def test_a_cell_of_several_lines_is_told_however_its_file_begins(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    assert SAID in set(file_texts(path, "an uploaded file"))


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-16",
        "cp1252",
    ],
)
def test_words_are_found_in_each_encoding_of_latin_letters(tmp_path: Path, encoding: str) -> None:
    said = "Grüße an Löwe" if encoding == "cp1252" else "pozdrowienia dla Łukasza"
    path = tmp_path / "file"
    path.write_bytes(f"text,label\n{said},lost\n".encode(encoding))
    assert said in set(file_texts(path, "an uploaded file"))


@pytest.mark.parametrize("data", ["привет как дела,привет\n".encode("cp1251"), b"PK\x03\x04\x00\x00"])
def test_what_cannot_be_told_is_not_searched_in_silence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataInvalid):
        list(file_texts(path, "an uploaded file"))


def test_cells_of_parquet_are_told(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": [SAID]}), tmp_path / "file")
    assert SAID in set(file_texts(tmp_path / "file", "an uploaded file"))
