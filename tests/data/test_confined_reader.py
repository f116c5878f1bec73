"""What every format has in common when it is read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from support.data import make_objective
from support.data_files import CELLS, NAMES, as_csv, fill, read, refused, write_parquet
from tailorbird.data import fingerprint_sources
from tailorbird.data.readers import formats
from tailorbird.data.readers.data_file import open_file
from tailorbird.domain.errors import DataInvalid


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_come_out_of_every_format(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    found = read(tmp_path, name)
    assert sorted((row.text, row.target) for row in found.rows) == sorted(CELLS)
    assert (found.quarantined, found.read) == ((), {name: 20})
    assert found.files == fingerprint_sources(make_objective({"path": name}), tmp_path)


@pytest.mark.parametrize(("name", "lines"), [("d.json", [2, 6]), ("d.parquet", [1, 2]), ("d.tsv", [2, 4]), ("d", [1, 1])])
def test_lines_are_those_on_which_rows_start(tmp_path: Path, name: str, lines: list[int]) -> None:
    fill(tmp_path)
    assert [row.provenance.line for row in read(tmp_path, name).rows[:2]] == lines


def test_a_file_without_bytes_or_rows_is_refused(tmp_path: Path) -> None:
    for name in ("d.parquet", "d.json", "d.tsv"):
        (tmp_path / name).write_bytes(b"")
        assert refused(tmp_path, name).error_code == "data_invalid"
    (tmp_path / "d.json").write_text("[]")
    write_parquet(tmp_path / "d.parquet", text=pa.array([], pa.string()), label=pa.array([], pa.string()))
    for name in ("d.parquet", "d.json"):
        assert refused(tmp_path, name).error_code == "data_invalid"


def test_latin_1_is_refused_or_set_aside_but_never_a_crash(tmp_path: Path) -> None:
    for name, content in {"d.tsv": b"text\tlabel\nx\ta\ncaf\xe9\tb\n", "d.json": b'[{"text": "x"},\n{"text":\n"caf\xe9"}]'}.items():
        (tmp_path / name).write_bytes(content)
        error = refused(tmp_path, name)
        assert (error.error_code, error.message) == ("file_encoding", f"{name}:3: not UTF-8")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(as_csv())

    def rows_while_growing() -> None:
        with open_file("d.csv", path, ".csv") as file:
            assert next(iter(formats.read_csv(file, ())))
            with path.open("a") as out:
                out.write("one more,a\n")

    with pytest.raises(DataInvalid) as caught:
        rows_while_growing()
    assert caught.value.error_code == "file_changed"


def test_a_large_file_is_read_line_by_line(tmp_path: Path) -> None:
    """A hundred times the block that a file is read in: were it read whole, all of it would be drawn before the first record."""
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "some words,a\n" * 100_000)
    with open_file("d.csv", path, ".csv") as file, path.open() as stream:
        drawn: list[str] = []
        records = formats.parse(file.name, (drawn.append(line) or line for line in stream), ",")
        next(records)
    assert len(drawn) == 2
