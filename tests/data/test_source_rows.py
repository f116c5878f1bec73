"""Rows from records: terms of use, conversations."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from support.data import build, make_objective
from tailorbird.data import read_sources
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Objective, TermColumns

SECRET = b"k" * 32


PEOPLE = ("Ann", "Bob", "Cy", "Dee", "Eve", "Fay")


COLUMNS = TermColumns(license="licence", collected="year", consent="basis", retain_until="until")


def write(folder: Path, **changes: object) -> Objective:
    """Sixty rows of six people."""
    blank = dict.fromkeys(("licence", "year", "basis", "until"))
    rows = [
        blank | {"text": f"row {n} says {['yes', 'no', 'maybe'][n % 3]} {n * n}", "label": "ab"[n % 2], "who": PEOPLE[n % 6]} | changes
        for n in range(60)
    ]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_objective({"path": "d.jsonl", "subject": "who", "terms": COLUMNS})


def test_a_rows_own_terms_count_before_those_of_its_source(tmp_path: Path) -> None:
    objective = write(tmp_path, licence="CC-BY-4.0", year=2024, basis="contract", until="2031-05-01")
    row = read_sources(objective, tmp_path, SECRET).rows[0].provenance
    assert (row.license, row.collected, row.consent, row.retain_until) == ("CC-BY-4.0", "2024", "contract", date(2031, 5, 1))
    assert (row.origin, row.subject) == ("written for a test", pseudonym(SECRET, "acme", "ann"))
    plain = read_sources(write(tmp_path, licence=None, year=None, basis="", until=None), tmp_path, SECRET).rows[0].provenance
    assert (plain.license, plain.collected, plain.consent, plain.retain_until) == ("Apache-2.0", "2025", "public", None)


def test_rows_on_one_footing_share_it(tmp_path: Path) -> None:
    rows = read_sources(write(tmp_path, licence="MIT", year=2024, basis="x", until=None), tmp_path, SECRET).rows
    assert len({id(row.place) for row in rows}) == 1


def test_a_day_that_is_none_sets_the_row_aside(tmp_path: Path) -> None:
    objective = write(tmp_path, licence="MIT", year=1, basis="x", until="soon")
    with pytest.raises(DataInvalid, match="60 of 60 rows") as refused:
        read_sources(objective, tmp_path, SECRET)
    assert "YYYY-MM-DD" in refused.value.hint


def test_a_rows_licence_that_clashes_with_the_use_blocks(tmp_path: Path) -> None:
    objective = write(tmp_path, licence="CC BY-NC 4.0", year=1, basis="x", until=None)
    with pytest.raises(DataInvalid, match=r"d\.jsonl:1: the licence CC BY-NC 4\.0 clashes") as refused:
        read_sources(objective, tmp_path, SECRET)
    assert refused.value.error_code == "license_clash"
    research = objective.model_copy(update={"business": objective.business.model_copy(update={"use": "research"})})
    assert len(read_sources(research, tmp_path, SECRET).rows) == 60


def test_what_a_label_is_does_not_hang_on_other_sources(tmp_path: Path) -> None:
    """Ids of earlier rows changed with a second source, and rows of test moved into train; two spellings are refused."""
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(f"row {n} said {n * n},{('True', 'False')[n % 2]}\n" for n in range(40)))
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"text": f"item {n}", "label": n % 2 == 0}) + "\n" for n in range(10)))
    both = make_objective({"path": "d.csv"}, {"path": "d.jsonl"})
    assert {row.target for row in read_sources(both, tmp_path).rows} == {"True", "False", "true", "false"}
    with pytest.raises(DataInvalid) as refused:
        build(both, tmp_path)
    assert (refused.value.error_code, "in CSV, too" in refused.value.hint) == ("labels_collide", True)
