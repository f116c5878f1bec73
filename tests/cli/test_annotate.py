"""The source that ``data annotate`` prints is one that the objective can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.cli.data import path_beside


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
