"""Splits that data bring along are kept: no row of a test set is learned from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.data import build, make_objective
from tailorbird.data import read_sources
from tailorbird.domain.dataset import Split


def text(n: int) -> str:
    return " ".join(f"w{n * factor % 9973}" for factor in (31, 577, 1009, 4001, 6007, 7001))


def write(folder: Path, names: tuple[str, ...], count: int = 120, name: str = "d.jsonl") -> None:
    rows = [{"text": text(n), "label": "ab"[n % 2], "part": names[n % len(names)]} for n in range(count)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


OBJECTIVE = make_objective({"path": "d.jsonl", "split_column": "part"})


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("train", "Test", "validation", "train"), {"Test": Split.TEST, "validation": Split.DEV, "train": Split.TRAIN}),
        (("train", "test", "train"), {"test": Split.TEST}),
    ],
)
def test_rows_stay_in_the_split_that_is_given(tmp_path: Path, names: tuple[str, ...], kept: dict[str, Split]) -> None:
    """What no row is given to is drawn from those of train."""
    write(tmp_path, names)
    built = build(OBJECTIVE, tmp_path)
    split_of = {row.text: row.split for row in built.rows}
    assert len(split_of) == 120
    for n in range(120):
        given = names[n % len(names)]
        assert split_of[text(n)] in ({kept[given]} if given in kept else set(Split) - set(kept.values()))
    assert set(split_of.values()) == set(Split)


def test_a_row_of_train_that_repeats_one_of_test_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path, ("train", "test"))
    with (tmp_path / "d.jsonl").open("a") as file:
        file.write(json.dumps({"text": f"{text(1)} .", "label": "b", "part": "train"}) + "\n")
    (entry,) = build(OBJECTIVE, tmp_path).quarantined
    assert (entry.line, entry.code) == (121, "contaminates_test")


def test_a_split_that_is_none_is_set_aside(tmp_path: Path) -> None:
    write(tmp_path, ("train", "test", "unlabelled", ""))
    entries = read_sources(OBJECTIVE, tmp_path).quarantined
    assert {entry.code for entry in entries} == {"split_unknown", "empty_split"}
