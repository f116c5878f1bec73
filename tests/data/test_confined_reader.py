"""What every format has in common when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.data import make_objective
from support.data_files import CELLS, NAMES, as_csv, fill, read
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
