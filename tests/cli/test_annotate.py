"""The source that ``data annotate`` prints is one that the objective can read, and its file is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.cli.data import demand_free, path_beside, write_rows
from tailorbird.domain.errors import InvalidInput


@pytest.mark.parametrize(
    ("objective", "into", "path"),
    [
        ("objective.yaml", "labelled.csv", "labelled.csv"),
        ("objective.yaml", "made/labelled.csv", "made/labelled.csv"),
        ("jobs/desk.yaml", "labelled.csv", "../labelled.csv"),
        ("jobs/desk.yaml", "jobs/labelled.csv", "labelled.csv"),
        ("/jobs/desk.yaml", "/rows/labelled.csv", "../rows/labelled.csv"),
    ],
)
def test_labelled_rows_are_named_as_the_objective_finds_them(objective: str, into: str, path: str) -> None:
    assert path_beside(Path(objective), Path(into)) == path


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = tmp_path / "labelled.csv"
    write_rows(into, [("please, refund", "refund")])
    assert into.read_text() == 'text,label\n"please, refund",refund\n'
    with pytest.raises(InvalidInput, match="there already"):
        write_rows(into, [])
    assert "refund" in into.read_text()
    into.unlink()

    def full(_: object) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr("tailorbird.cli.data.flush", full)
    with pytest.raises(OSError, match="space"):
        write_rows(into, [("please refund", "refund")])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_before_anything_is_paid(tmp_path: Path) -> None:
    demand_free(tmp_path / "labelled.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        demand_free(tmp_path / "nowhere" / "labelled.csv")
