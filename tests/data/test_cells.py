"""Cells with several labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from support.data import build, make_objective
from tailorbird.data import SourceRows, read_sources
from tailorbird.data.readers.cells import UnusableRecord, name_cell
from tailorbird.data.readers.data_file import Record
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
        ("refund|billing", "billing | refund"),
        (" refund | billing | refund ", "billing | refund"),
        ('"[""refund"", ""billing""]"', "billing | refund"),
        ("[]", "none"),
        ("none", "none"),
        ("\"['refund', 'billing']\"", "billing | refund"),
        ('"[""it\'s"", \'a\']"', "a | it's"),
        ('"[3, 27]"', "27 | 3"),
    ],
)
def test_a_cell_holds_labels(tmp_path: Path, cell: str, target: str) -> None:
    (tmp_path / "d.csv").write_text(f"text,label\nsome words,{cell}\n")
    assert [row.target for row in read(tmp_path, "d.csv").rows] == [target]


def test_lists_are_labels(tmp_path: Path) -> None:
    some = rows(8)
    (tmp_path / "d.json").write_text(json.dumps(some))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    columns = {"text": [row["text"] for row in some], "label": pa.array([row["label"] for row in some], pa.list_(pa.string()))}
    parquet.write_table(pa.table(columns), tmp_path / "d.parquet")
    for name in ("d.json", "d.jsonl", "d.parquet"):
        assert [row.target for row in read(tmp_path, name).rows] == [*SETS, *SETS]


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("", "empty_label"),
        ("billing | ", "empty_label"),
        ([" "], "empty_label"),
        (None, "missing_cell"),
        (7, "wrong_type"),
        ([7.5], "wrong_type"),
        ("[refund", "wrong_type"),
        ('["refund", null]', "wrong_type"),
        (["half \ud800"], "broken_text"),
        ('["half \\ud800"]', "broken_text"),
    ],
)
def test_what_is_no_set_is_quarantined(tmp_path: Path, label: Any, code: str) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows(4), {"text": "x", "label": label}]))
    found = read(tmp_path, "d.jsonl")
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(5, code)]


@pytest.mark.parametrize("label", [["none"], ["refund", "None"], "refund | none", ["a|b"]])
def test_a_label_that_cannot_be_told_from_the_text_around_it_is_refused(tmp_path: Path, label: Any) -> None:
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows(4), {"text": "x", "label": label}]))
    with pytest.raises(DataInvalid) as caught:
        read(tmp_path, "d.jsonl")
    assert caught.value.error_code == "invalid_input"
    assert caught.value.message.startswith("d.jsonl:5: ")
    assert "rename" in caught.value.hint


def test_a_row_counts_for_each_of_its_labels(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(rows(200)))
    manifest = build(make_objective({"path": "d.json"}, labels="many"), tmp_path).manifest
    assert manifest.labels == ("billing", "refund")
    assert manifest.label_sets == tuple(sorted(SETS))
    for counts in manifest.label_counts.values():
        assert (counts.train + counts.dev + counts.test) == 100
    assert manifest.counts.train + manifest.counts.dev + manifest.counts.test == 200


def test_one_label_has_no_sets(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([{**row, "label": "ab"[n % 2]} for n, row in enumerate(rows(60))]))
    assert build(make_objective({"path": "d.json"}), tmp_path).manifest.label_sets == ()


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ([True, False, True], ["true", "false", "true"]),
        ([1.0, 2.0, float("nan")], ["1", "2"]),
        (pa.array([3, 1, 2], pa.int8()), ["3", "1", "2"]),
    ],
)
def test_numbers_and_truth_values_are_labels(tmp_path: Path, labels: Any, targets: list[str]) -> None:
    """A data frame makes 1 to 1.0 as soon as a cell of the column is empty; what is no number at all is such a cell."""
    table = pa.table({"text": ["a word", "two words", "three words"], "label": labels, "who": pa.array([7.0, 8.0, float("nan")])})
    parquet.write_table(table, tmp_path / "d.parquet")
    found = read_sources(make_objective({"path": "d.parquet", "subject": "who"}), tmp_path)
    assert [row.target for row in found.rows] == targets
    assert [row.subject is None for row in found.rows] == [False, False, True][: len(targets)]
    assert [entry.code for entry in found.quarantined] == ["missing_cell"] * (3 - len(targets))


@pytest.mark.parametrize("cells", [(1, 0, 1), ("1", "0", "1.0"), (True, False, True), ("TRUE", "False", "yes"), (1.0, 0.0, 1.0)])
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


def test_one_label_of_columns_of_flags(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,good,bad\na,1,0\nb,0,1\nc,1,1\n")
    found = read_sources(make_objective({"path": "d.csv", "label": ("good", "bad")}), tmp_path)
    assert [row.target for row in found.rows] == ["good", "bad"]
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(4, "label_count")]


def test_texts_of_several_columns_are_one(tmp_path: Path) -> None:
    lines = [
        {"title": "A parcel", "body": "It is late.", "label": "a"},
        {"title": None, "body": "It is lost.", "label": "b"},
        {"title": "Number", "body": 12, "label": "b"},
        {"title": " ", "body": "", "label": "b"},
        {"title": "A list", "body": ["x"], "label": "b"},
        {"title": "Another one", "body": None, "label": "a"},
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_sources(make_objective({"path": "d.jsonl", "text": ("title", "body")}), tmp_path)
    assert [row.text for row in found.rows] == [
        "A parcel\n\nIt is late.",
        "It is lost.",
        "Number\n\n12",
        "Another one",
    ]
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(4, "empty_text"), (5, "wrong_type")]
    assert {row.transforms for row in found.rows} == {("joined",)}


def test_a_label_that_is_no_text_says_what_to_write() -> None:
    with pytest.raises(UnusableRecord, match=r"the label \(column 'label'\) is not a text: write it as one"):
        name_cell(Record(1, {"label": 2.5}), "label", "label")
