"""JSON and JSON Lines files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data_files import as_json, read, refused
from tailorbird.data.readers import formats
from tailorbird.domain.errors import DataInvalid


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('\n[{"text": "x", "label": "a"}\n{"text": "x"}]', 3),
        ('[{"text": "x",\n"label": oops}]', 2),
        ("[\n" + "[" * 100_000, 2),
    ],
)
def test_a_broken_json_array_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "d.json").write_text(text)
    error = refused(tmp_path, "d.json")
    assert (error.error_code, error.message.partition(": ")[0]) == ("broken_json", f"d.json:{line}")


def test_records_in_an_object_keep_their_lines(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(
        '{"version": {"n": [1]},\n "data":\n [{"text": "x", "label": "a"},\n{"text": "y", "label": "b"}],\n"n": 2}\n'
    )
    assert [(row.text, row.provenance.line) for row in read(tmp_path, "d.json").rows] == [("x", 3), ("y", 4)]


def test_elements_that_are_no_rows_are_quarantined(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(
        '[{"text":"x","label":"a"},\n7,\n{"text":"x","text":"y"},{"text":"z","label":' + "9" * 5000 + "}," + as_json()[1:]
    )
    found = read(tmp_path, "d.json")
    assert [(entry.line, entry.code) for entry in found.quarantined] == [(2, "broken_json"), (3, "broken_json"), (3, "broken_json")]
    assert len(found.rows) == 21


@given(
    st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers() | st.none(), max_size=3), max_size=6),
    st.sampled_from([None, 1]),
)
def test_any_json_array_is_taken_apart_as_a_parser_would(rows: list[dict[str, Any]], indent: int | None) -> None:
    text = json.dumps(rows, indent=indent)
    assert [record.cells for record in formats.parse_json("d.json", text)] == rows


@given(st.text(st.sampled_from('[]{}",:1 \nab'), max_size=40))
def test_any_text_is_an_array_or_refused(text: str) -> None:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    try:
        records = list(formats.parse_json("d.json", text))
    except DataInvalid:
        assert not isinstance(whole, list)
    else:
        assert isinstance(whole, list)
        assert len(records) == len(whole)
