"""The shifted part of the data: who is in it, that nothing like it is learned from, and that it stays what it was."""

from __future__ import annotations

import csv
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.data import Store, make_objective
from tailorbird.data import BuiltSnapshot, SnapshotRequest, build_snapshot, load_rows, rewrite_snapshot
from tailorbird.domain.dataset import Quarantined, Row, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Objective, SplitPolicy, TaskKind
from tailorbird.text.dates import time_of

WORDS = [
    "amber",
    "brook",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "haven",
    "islet",
    "jolly",
    "knoll",
    "lemon",
    "mango",
    "nylon",
    "ocean",
    "pearl",
    "quilt",
    "river",
    "sugar",
]


def message(seed: int) -> str:
    drawn = random.Random(seed)
    return " ".join(drawn.choice(WORDS) + str(drawn.randrange(1000)) for _ in range(9))


def rows_of(number: int, *, first: int = 0, by: Any = lambda i: f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}") -> list[dict[str, str]]:
    return [{"text": message(i), "label": "ab"[i % 2], "when": by(i)} for i in range(first, first + number)]


def write(folder: Path, rows: list[dict[str, str]], name: str = "rows.csv") -> None:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def objective_of(policy: SplitPolicy, *sources: dict[str, Any], kind: TaskKind = TaskKind.CLASSIFY) -> Objective:
    made = make_objective(*(sources or ({"path": "rows.csv"},)), kind=kind)
    return made.model_copy(update={"split": policy})


def build(objective: Objective, folder: Path, before: BuiltSnapshot | None = None) -> BuiltSnapshot:
    rule = before.manifest.shift.rule if before and before.manifest.shift else None
    return build_snapshot(SnapshotRequest(objective, folder, Store(), before.assigned if before else {}, lambda _: None, shift=rule))


def shifted(built: BuiltSnapshot) -> dict[str, Row]:
    return {row.text: row for row in built.rows if row.shifted}


def test_by_time_the_newest_rows_are_shifted_and_none_of_them_is_learned_from(tmp_path: Path) -> None:
    rows = rows_of(300)
    write(tmp_path, rows)
    built = build(objective_of(SplitPolicy(by="when")), tmp_path)
    part = built.manifest.shift
    assert part is not None
    assert part.rule.kind == "time"
    newest = {row["text"] for row in rows if (time_of(row["when"]) or datetime.max).isoformat() >= part.rule.since[:19]}
    assert set(shifted(built)) == newest
    assert 0.15 < len(newest) / len(rows) < 0.3
    assert part.counts.train == 0
    assert part.counts.dev > 10
    assert part.counts.test > 10
    assert part.counts.dev + part.counts.test == len(newest)
    assert {split for split in Split if any(row.split is split and not row.shifted for row in built.rows)} == set(Split)
    assert built.manifest.unshifted("a", Split.DEV) == sum(
        row.split is Split.DEV and row.target == "a" and not row.shifted for row in built.rows
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_that_are_appended_move_none(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever times or values come later, earlier rows keep split and side, and nothing in train is shifted."""
    time = data.draw(st.booleans())
    first = [*data.draw(st.lists(st.integers(0, 11), min_size=60, max_size=80)), 0, 3, 6, 9, 11]
    later = data.draw(st.lists(st.integers(0, 23), min_size=1, max_size=30))
    told = (lambda n: f"20{20 + n:02d}-01-01") if time else (lambda n: f"site {n}")
    rows = [{"text": message(i), "label": "ab"[i % 2], "when": told(n)} for i, n in enumerate(first + later)]
    objective = objective_of(SplitPolicy(by="when"))
    write(tmp_path, rows[: len(first)])
    before = build(objective, tmp_path)
    write(tmp_path, rows)
    after = build(objective, tmp_path, before)
    was, now = ({row.id: (row.split, row.shifted) for row in built.rows} for built in (before, after))
    assert {row: now[row] for row in was} == was
    assert len(now) == len(rows)
    assert (Split.TRAIN, True) not in now.values()
    by_text = {row.text: row.shifted for row in after.rows}
    sides: dict[str, set[bool]] = {}
    for row in rows:
        sides.setdefault(row["when"], set()).add(by_text[row["text"]])
    assert all(len(side) == 1 for side in sides.values())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), appended=st.booleans())
def test_nothing_that_is_like_a_shifted_row_or_of_its_subject_is_learned_from(tmp_path: Path, seed: int, appended: bool) -> None:
    """Near-copies and people on both sides of the cut: train shares no group, no subject and no text with the shifted part. (What several
    people wrote alike does not tie their other rows, here as everywhere.)"""
    drawn = random.Random(seed)
    rows = rows_of(160, first=seed)
    for row in rows:
        row["who"] = f"person {drawn.randrange(120)}" if drawn.random() < 0.5 else ""
    for row in drawn.sample(rows, 40):
        other = drawn.choice(rows)
        row["text"], row["who"] = f"{other['text']} again", other["who"]
    objective = objective_of(SplitPolicy(by="when"), {"path": "rows.csv", "subject": "who"})
    write(tmp_path, rows[:100] if appended else rows)
    built = build(objective, tmp_path)
    if appended:
        write(tmp_path, rows)
        built = build(objective, tmp_path, built)
    learned = [row for row in built.rows if row.split is Split.TRAIN]
    measured = [row for row in built.rows if row.shifted]
    assert learned
    assert measured
    assert {row.group for row in learned}.isdisjoint(row.group for row in measured)
    assert {row.provenance.subject for row in learned if row.provenance.subject}.isdisjoint(row.provenance.subject for row in measured)
    assert {row.text for row in learned}.isdisjoint(row.text for row in measured)
    assert {row.text.removesuffix(" again") for row in learned}.isdisjoint(row.text.removesuffix(" again") for row in measured)
    sides = {group: {row.split for row in built.rows if row.group == group} for group in {row.group for row in built.rows}}
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_row_that_was_learned_from_before_the_objective_split_by_a_column_is_set_aside_and_does_not_move(tmp_path: Path) -> None:
    rows = rows_of(200)
    write(tmp_path, rows)
    before = build(make_objective({"path": "rows.csv"}), tmp_path)
    after = build(objective_of(SplitPolicy(by="when")), tmp_path, before)
    now = {row.id: row for row in after.rows}
    gone = [row for row in before.rows if row.id not in now]
    assert gone
    assert {row.split for row in gone} == {Split.TRAIN}
    assert all(now[row.id].split is row.split for row in before.rows if row.id in now)
    assert {entry.code for entry in after.quarantined} == {"shifted_in_train"}
    assert len(after.quarantined) == len(gone)


@pytest.mark.parametrize(
    ("by", "policy", "code"),
    [
        (lambda i: "2024-01-01", {}, "data_invalid"),
        (lambda i: f"{1 + i % 28}.{1 + i % 12:02d}.2024", {}, "bad_time"),
        (lambda i: "abc"[i % 3], {"values": ("a", "d")}, "data_invalid"),
        (lambda i: f"2024-01-{1 + i % 28:02d}", {"by": "whem"}, "column_missing"),
    ],
)
def test_a_column_that_cannot_divide_the_rows_is_refused(tmp_path: Path, by: Any, policy: dict[str, Any], code: str) -> None:
    write(tmp_path, rows_of(100, by=by))
    with pytest.raises(DataInvalid) as refused:
        build(objective_of(SplitPolicy(**{"by": "when"} | policy)), tmp_path)
    assert refused.value.error_code == code


def test_a_snapshot_that_a_person_was_taken_out_of_counts_its_shifted_part_anew(tmp_path: Path) -> None:
    store = Store()
    write(tmp_path, rows_of(200))
    before = build_snapshot(SnapshotRequest(objective_of(SplitPolicy(by="when")), tmp_path, store, {}, lambda _: None)).manifest
    assert before.shift is not None
    gone = next(row for row in load_rows(before, store, Split.DEV) if row.shifted and row.target == "a")
    why = Quarantined(file="rows.csv", line=gone.provenance.line, code="erased", reason="its subject was erased")
    after = rewrite_snapshot(before, store, lambda row: why if row.id == gone.id else row, b"").manifest
    assert after.shift is not None
    assert after.shift.rule == before.shift.rule
    assert after.shift.counts.dev == before.shift.counts.dev - 1
    assert after.shift.label_counts["a"].dev == before.shift.label_counts["a"].dev - 1
    assert after.shift.label_counts["b"] == before.shift.label_counts["b"]
    assert after.unshifted(None, Split.DEV) == before.unshifted(None, Split.DEV)
    assert sum(row.shifted for split in Split for row in load_rows(after, store, split)) == after.shift.counts.dev + after.shift.counts.test
