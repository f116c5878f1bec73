"""Cells with several labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.data import make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.domain.errors import DataInvalid
from tailorbird.text.label_rules import split

SETS = ("billing", "billing | refund", "refund", "none")


def rows(count: int, targets: tuple[str, ...] = SETS) -> list[dict[str, Any]]:
    """Messages that are no near-duplicates of one another, with the sets in turn."""
    words = [f"{chr(97 + n % 26)}{n * 7919 % 9973}" for n in range(count)]
    return [{"text": f"{w} {w[::-1]} about {w}{w} and {w}", "label": list(split(targets[n % len(targets)]))} for n, w in enumerate(words)]


def read(folder: Path, name: str) -> SourceRows:
    return read_sources(make_objective({"path": name}, labels="many"), folder)


@pytest.mark.parametrize(
    ("cell", "target"),
    [
        ("refund", "refund"),
        (" refund | billing | refund ", "billing | refund"),
        ('"[""refund"", ""billing""]"', "billing | refund"),
        ("[]", "none"),
    ],
)
def test_a_cell_holds_labels(tmp_path: Path, cell: str, target: str) -> None:
    (tmp_path / "d.csv").write_text(f"text,label\nsome words,{cell}\n")
    assert [row.target for row in read(tmp_path, "d.csv").rows] == [target]


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("billing | ", "empty_label"),
        (None, "missing_cell"),
        ([7.5], "wrong_type"),
        ('["half \\ud800"]', "broken_text"),
    ],
)
def test_what_is_no_set_is_quarantined(tmp_path: Path, label: Any, code: str) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows(4), {"text": "x", "label": label}]))
    found = read(tmp_path, "d.jsonl")
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(5, code)]


@pytest.mark.parametrize(
    "label",
    [
        ["refund", "None"],
    ],
)
def test_a_label_that_cannot_be_told_from_the_text_around_it_is_refused(tmp_path: Path, label: Any) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows(4), {"text": "x", "label": label}]))
    with pytest.raises(DataInvalid) as caught:
        read(tmp_path, "d.jsonl")
    assert caught.value.error_code == "invalid_input"


@pytest.mark.parametrize("cells", [(1, 0, 1), ("TRUE", "False", "yes")])
def test_columns_of_flags_are_labels(tmp_path: Path, cells: tuple[Any, ...]) -> None:
    columns = ("toxic", "threat", "insult")
    lines = [
        {"text": "some words"} | dict(zip(columns, cells, strict=True)),
        {"text": "other words"} | dict.fromkeys(columns, cells[1]),
        {"text": "third words"} | dict.fromkeys(columns, cells[0]) | {"threat": 7},
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_sources(make_objective({"path": "d.jsonl", "label": columns}, labels="many"), tmp_path)
    assert [row.target for row in found.rows] == ["insult | toxic", "none"]
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(3, "wrong_type")]


def test_texts_of_several_columns_are_one(tmp_path: Path) -> None:
    bodies = ("It is late.", 12, None, ["x"])
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"title": "A parcel", "body": body, "label": "a"}) + "\n" for body in bodies))
    found = read_sources(make_objective({"path": "d.jsonl", "text": ("title", "body")}), tmp_path)
    assert [row.text for row in found.rows] == ["A parcel\n\nIt is late.", "A parcel\n\n12", "A parcel"]
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(4, "wrong_type")]
    assert {row.transforms for row in found.rows} == {("joined",)}
