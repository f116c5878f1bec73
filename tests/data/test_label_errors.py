"""Rows whose label is likely wrong are found when a snapshot is built, ranked, and bounded in number."""

from __future__ import annotations

import json
from pathlib import Path

from support.data import build, make_objective
from tailorbird.data import label_suspects, row_id
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.objective import Task, TaskKind

TASK = Task(kind=TaskKind.CLASSIFY, instruction="-")
WORDS = {
    "money": ["refund", "invoice", "payment", "account", "charge", "bank"],
    "parcel": ["box", "courier", "delivery", "street", "late", "driver"],
}


def made(text: str, label: str, line: int, split: Split = Split.TRAIN) -> Row:
    terms = {"origin": "-", "license": "-", "collected": "-", "consent": "-"}
    place = Provenance(file="d.csv", line=line, **terms)
    return Row(id=row_id(text, label), text=text, target=label, group="g", split=split, provenance=place)


def rows(wrong: set[int] = frozenset(), size: int = 60) -> list[Row]:  # type: ignore[assignment]
    found = []
    for line in range(size):
        label, other = ("money", "parcel") if line % 2 else ("parcel", "money")
        said = " ".join(WORDS[label][(line + step) % 6] for step in (0, 1, 3))
        found.append(made(f"{said} {line}", other if line in wrong else label, line))
    return sorted(found, key=lambda row: row.id)


def test_rows_that_bear_another_label_come_first() -> None:
    found = label_suspects(rows({3, 18, 41}), TASK)
    assert {suspect.line for suspect in found.ranked[:3]} == {3, 18, 41}
    assert [suspect.score for suspect in found.ranked] == sorted((suspect.score for suspect in found.ranked), reverse=True)
    first = found.ranked[0]
    assert (first.suggested != first.given, 0 < first.score <= 1, found.skipped) == (True, True, "")


def test_a_build_stores_them_in_its_report(tmp_path: Path) -> None:
    lines = [json.dumps({"text": row.text, "label": row.target}) for row in sorted(rows({3}, 90), key=lambda row: row.provenance.line)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    built = build(make_objective({"path": "d.jsonl"}, kind=TaskKind.CLASSIFY), tmp_path)
    wrong = next(row for row in built.rows if row.provenance.line == 4)
    assert wrong.split is not Split.TEST
    assert built.report.suspects[0].row == wrong.id
