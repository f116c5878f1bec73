"""Snapshots: nothing lost, nothing repeated, nothing on two sides, nothing moved."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import Store, build, make_objective
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import BuiltSnapshot, load_rows
from tailorbird.data.duplicates.near_duplicates import alike, near_duplicates
from tailorbird.domain.dataset import Quarantined, Row, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.evidence import ScopePolicy
from tailorbird.domain.objective import Objective
from tailorbird.text.words import normalise

Json = dict[str, Any]

TOPICS = ("refund for order", "card lost near", "change address to", "invoice wrong for", "parcel late since")


def messages(count: int, label: str, start: int = 0) -> list[Json]:
    """Messages that are no near-duplicates of one another."""
    words = [f"{chr(97 + n % 26)}{n * 7919 % 9973}" for n in range(start, start + count)]
    return [{"text": f"{word} {TOPICS[n % 5]} {word[::-1]} {word}{word}", "label": label} for n, word in enumerate(words)]


def write(folder: Path, rows: Sequence[Json], name: str = "d.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def split_of(built: BuiltSnapshot) -> dict[str, Split]:
    return {row.text: row.split for row in built.rows}


def test_a_snapshot_is_frozen_and_read_back(tmp_path: Path) -> None:
    write(tmp_path, messages(200, "a") + messages(200, "b", 1000))
    store = Store()
    built = build(make_objective({"path": "d.jsonl"}), tmp_path, store=store)
    manifest = built.manifest
    assert (manifest.tenant, manifest.objective, manifest.labels) == ("acme", "desk", ("a", "b"))
    assert (manifest.read, manifest.duplicates, manifest.quarantined) == (400, 0, 0)
    loaded = [row for split in Split for row in load_rows(manifest, store, split)]
    assert sorted(loaded, key=lambda row: row.id) == list(built.rows)
    for split in Split:
        rows = load_rows(manifest, store, split)
        assert {row.split for row in rows} == {split}
        assert len(rows) == getattr(manifest.counts, split.value) == sum(getattr(c, split.value) for c in manifest.label_counts.values())
    assert 200 <= manifest.counts.train <= 280
    assert manifest.text_length_max == max(len(row.text) for row in built.rows)
    assert built.assigned == {row.id: (row.split.value, row.group) for row in built.rows}


def test_a_row_is_named_by_its_normalised_text_and_target(tmp_path: Path) -> None:
    write(tmp_path, [*messages(20, "a"), *messages(20, "b", 50), {"text": "Ｈello   THERE", "label": "b"}])
    built = build(make_objective({"path": "d.jsonl"}), tmp_path)
    row = next(row for row in built.rows if row.text.endswith("THERE"))
    assert row.id == digest_of({"text": "hello there", "target": "b"})


def test_the_same_input_gives_the_same_digests(tmp_path: Path) -> None:
    rows = messages(60, "a") + messages(60, "b", 500)
    write(tmp_path, rows)
    first = build(make_objective({"path": "d.jsonl"}), tmp_path)
    second = build(make_objective({"path": "d.jsonl"}), tmp_path)
    assert (second.manifest, list(second.rows)) == (first.manifest, list(first.rows))
    again = build(make_objective({"path": "d.jsonl"}), write(tmp_path, rows[::-1]))
    assert again.assigned == first.assigned


def test_exact_duplicates_are_kept_once_and_counted(tmp_path: Path) -> None:
    again = [{"text": "  Say it ONCE more please ", "label": "a"}, {"text": "say it once more please", "label": "a"}]
    write(tmp_path, [*messages(30, "a"), *messages(30, "b", 500), *again])
    built = build(make_objective({"path": "d.jsonl"}), tmp_path)
    assert (built.manifest.duplicates, built.manifest.read, len(built.rows)) == (1, 62, 61)
    assert [row.text for row in built.rows if "once" in normalise(row.text)] == ["  Say it ONCE more please "]


def test_rows_of_one_subject_stay_together(tmp_path: Path) -> None:
    rows = [row | {"who": f"p{n % 12}"} for n, row in enumerate(messages(60, "a") + messages(60, "b", 500))]
    write(tmp_path, rows)
    built = build(make_objective({"path": "d.jsonl", "subject": "who"}), tmp_path)
    subjects = {row["text"]: row["who"] for row in rows}
    sides = {(subjects[row.text], row.split, row.group) for row in built.rows}
    assert len(sides) == 12
    assert built.manifest.near_duplicate_groups == 0


def test_rows_near_an_official_test_row_are_quarantined(tmp_path: Path) -> None:
    exact = "where can i use this card in the whole country"
    near = exact.replace("whole", "whoole")
    write(tmp_path, [*messages(50, "a"), *messages(50, "b", 500), {"text": exact.upper(), "label": "a"}, {"text": near, "label": "a"}])
    write(tmp_path, [*messages(20, "a", 5000), *messages(20, "b", 6000), {"text": exact, "label": "a"}], "test.jsonl")
    built = build(make_objective({"path": "d.jsonl"}, {"path": "test.jsonl", "split": "test"}), tmp_path)
    assert split_of(built)[exact] is Split.TEST
    assert [(entry.file, entry.line, entry.code) for entry in built.quarantined] == [
        ("d.jsonl", 101, "contaminates_test"),
        ("d.jsonl", 102, "contaminates_test"),
    ]
    assert "card" not in "".join(entry.reason for entry in built.quarantined)


def known_from(texts: dict[str, tuple[str, str]], label: str = "a") -> dict[str, tuple[str, str]]:
    return {digest_of({"text": text, "target": label}): place for text, place in texts.items()}


LEFT, MIDDLE, RIGHT = (f"the parcel has been late since {end}" for end in ("monday morn", "monday", "mon"))


def test_a_new_row_that_bridges_two_splits_is_quarantined(tmp_path: Path) -> None:
    assert alike(LEFT, MIDDLE)
    assert alike(MIDDLE, RIGHT)
    assert not alike(LEFT, RIGHT)
    known = known_from({LEFT: ("train", "sha256:" + "1" * 64), RIGHT: ("test", "sha256:" + "2" * 64)})
    bridge = [{"text": text, "label": "a"} for text in (LEFT, RIGHT, MIDDLE)]
    write(tmp_path, [*messages(40, "a"), *messages(40, "b", 500), *bridge])
    built = build(make_objective({"path": "d.jsonl"}), tmp_path, known)
    assert [(entry.line, entry.code) for entry in built.quarantined] == [(83, "bridges_splits")]
    assert (split_of(built)[LEFT], split_of(built)[RIGHT]) == (Split.TRAIN, Split.TEST)


def test_a_new_row_follows_a_known_one_into_its_split_and_group(tmp_path: Path) -> None:
    for split in Split:
        group = "sha256:" + "1" * 64
        rows = [*messages(40, "a"), *messages(40, "b", 500), {"text": LEFT, "label": "a"}, {"text": MIDDLE, "label": "b"}]
        built = build(make_objective({"path": "d.jsonl"}), write(tmp_path, rows), known_from({LEFT: (split.value, group)}))
        assert {(row.split, row.group) for row in built.rows if row.text in (LEFT, MIDDLE)} == {(split, group)}


def test_an_official_test_row_near_a_row_trained_on_before_is_quarantined(tmp_path: Path) -> None:
    known = known_from({LEFT: ("train", "sha256:" + "1" * 64), MIDDLE: ("train", "sha256:" + "2" * 64)})
    write(tmp_path, [*messages(40, "a"), *messages(40, "b", 500), {"text": LEFT, "label": "a"}])
    late = [*messages(9, "a", 5000), *messages(9, "b", 6000), {"text": MIDDLE, "label": "a"}, {"text": LEFT, "label": "b"}]
    write(tmp_path, late, "test.jsonl")
    built = build(make_objective({"path": "d.jsonl"}, {"path": "test.jsonl", "split": "test"}), tmp_path, known)
    assert [(entry.file, entry.line, entry.code) for entry in built.quarantined] == [
        ("test.jsonl", 19, "already_split"),
        ("test.jsonl", 20, "bridges_splits"),
    ]


def refused(objective: Objective, folder: Path) -> DataInvalid:
    with pytest.raises(DataInvalid) as caught:
        build(objective, folder)
    assert caught.value.hint
    return caught.value


def test_a_label_with_a_single_row_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [*messages(20, "a"), *messages(20, "b", 500), *messages(1, "rare", 900), *messages(1, "rare", 900)])
    error = refused(make_objective({"path": "d.jsonl"}), tmp_path)
    assert error.error_code == "data_invalid"
    assert "the label 'rare' has a single row" in error.message


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (messages(20, "a"), "data_invalid"),
        (messages(20, "refund") + messages(20, "Refund", 500), "labels_collide"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path, rows: list[Json], code: str) -> None:
    if code == "data_invalid":
        rows = [row | {"who": "one person"} for row in rows]
    source = {"path": "d.jsonl"} | ({"subject": "who"} if code == "data_invalid" else {})
    error = refused(make_objective(source), write(tmp_path, rows))
    assert error.error_code == code
    assert "free words" not in error.message


def test_examples_out_of_scope_in_another_spelling_are_not_learned_as_a_label(tmp_path: Path) -> None:
    label = "Out-of-scope"
    write(tmp_path, messages(20, "a") + messages(20, "b", 500) + messages(20, label, 5000))
    objective = make_objective({"path": "d.jsonl"})

    def scoped(policy: ScopePolicy) -> Objective:
        return objective.model_copy(update={"task": objective.task.model_copy(update={"out_of_scope": policy})})

    assert refused(scoped(ScopePolicy()), tmp_path).error_code == "labels_collide"
    assert build(scoped(ScopePolicy(label=label)), tmp_path).manifest.labels == ("a", "b")


WORDS = ("card", "lost", "my", "where", "refund", "order", "late", "again")
TEXTS = st.lists(st.sampled_from(WORDS), min_size=2, max_size=9).map(" ".join)
ROWS = st.lists(
    st.fixed_dictionaries({"text": TEXTS, "label": st.sampled_from("ab"), "who": st.sampled_from(["", "", "", "ann", "bob", "cem"])}),
    max_size=25,
)
#: Enough rows to have every split and label, and to be most of their file, whatever is drawn beside them.
GROUND = [row | {"who": ""} for row in messages(40, "a") + messages(40, "b", 500)]


def snapshot(folder: Path, known: dict[str, tuple[str, str]], **files: list[Json]) -> BuiltSnapshot:
    fixed = {"more_test": "test", "more_train": "train"}
    for name, rows in files.items():
        write(folder, rows, f"{name}.jsonl")
    sources = [{"path": f"{name}.jsonl", "subject": "who", "split": fixed.get(name)} for name in files]
    return build(make_objective(*sources), folder, known)


def assert_sound(built: BuiltSnapshot, read: int) -> None:
    manifest, rows = built.manifest, list(built.rows)
    assert manifest.read == read == len(rows) + manifest.duplicates + len(built.quarantined)
    assert len({row.id for row in rows}) == len(rows)
    assert_apart(rows)
    places: Counter[tuple[str, int]] = Counter((row.provenance.file, row.provenance.line) for row in rows)
    places.update((entry.file, entry.line) for entry in built.quarantined)
    assert max(places.values()) == 1


def assert_apart(rows: Sequence[Row]) -> None:
    near = near_duplicates([normalise(row.text) for row in rows])
    assert all(rows[one].split is rows[other].split for one, other in near)
    assert len({(row.group, row.split) for row in rows}) == len({row.group for row in rows})


def others(start: int) -> list[Json]:
    return [row | {"who": ""} for row in messages(15, "a", start) + messages(15, "b", start + 500)]


@given(first=ROWS, second=ROWS, third=ROWS, test=ROWS, train=ROWS)
def test_appended_rows_leave_the_splits_of_earlier_ones(
    first: list[Json], second: list[Json], third: list[Json], test: list[Json], train: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("append")
    stages: list[dict[str, list[Json]]] = [
        {"d": GROUND + first},
        {"d": GROUND + first + second},
        {"d": GROUND + first + second, "more_test": others(7000) + test},
        {"d": GROUND + first + second + third, "more_test": others(7000) + test, "more_train": others(8000) + train},
    ]
    known: dict[str, tuple[str, str]] = {}
    places: dict[str, tuple[str, int]] = {}
    for files in stages:
        built = snapshot(folder, known, **files)
        assert_sound(built, sum(map(len, files.values())))
        gone = known.keys() - built.assigned.keys()
        assert {row: built.assigned[row] for row in known if row not in gone} == {row: known[row] for row in known if row not in gone}
        # With further rows a text may turn out to differ from a protected one in nothing but what most rows share.
        assert "test" not in {known[row][0] for row in gone}
        contaminated = {(one.file, one.line) for one in built.quarantined if one.code.startswith("contaminates_")}
        assert {places[row] for row in gone} <= contaminated
        known = built.assigned
        places |= {row.id: (row.provenance.file, row.provenance.line) for row in built.rows}


def test_quarantine_is_stored_without_text(tmp_path: Path) -> None:
    write(tmp_path, [*messages(20, "a"), *messages(20, "b", 500), {"text": "", "label": "a"}, {"text": "secret"}])
    store = Store()
    built = build(make_objective({"path": "d.jsonl"}), tmp_path, store=store)
    stored = store.get(built.manifest.quarantine)
    assert tuple(Quarantined.model_validate_json(line) for line in stored.splitlines()) == built.quarantined
    assert [entry.line for entry in built.quarantined] == [41, 42]
    assert b"secret" not in stored
