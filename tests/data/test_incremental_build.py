"""Rows that are appended cost their own work, and give the very snapshot that is built from nothing."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.test_snapshot import GROUND, LEFT, MIDDLE, RIGHT, ROWS, messages, others
from support.data import Store, make_objective
from tailorbird.data import Amendments, BuiltSnapshot, SnapshotRequest, build_snapshot
from tailorbird.data.incremental import state
from tailorbird.data.incremental.state import forget
from tailorbird.domain.curation import CurationPolicy, PersonalKind, PrivacyAction, PrivacyPolicy, QualityPolicy, QualityRule
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind

Json = dict[str, Any]
Known = dict[str, tuple[str, str]]


class Desk:
    """One objective that is curated again and again: with what was kept, and each time from nothing beside it."""

    def __init__(self, folder: Path, *sources: Json, policy: CurationPolicy | None = None, kind: TaskKind = TaskKind.CLASSIFY) -> None:
        self.folder = folder
        self.objective = make_objective(*sources, kind=kind)
        if policy:
            self.objective = self.objective.model_copy(update={"curation": policy})
        self.store = Store()
        self.known: Known = {}
        self.amendments = Amendments(secret=b"a secret")
        self.told: list[str] = []

    @property
    def memory(self) -> Path:
        return self.folder / "kept"

    def request(self, *, memory: bool) -> SnapshotRequest:
        return SnapshotRequest(
            self.objective,
            self.folder,
            self.store,
            dict(self.known),
            self.told.append,
            self.amendments,
            memory=self.memory if memory else None,
        )

    def curate(self) -> BuiltSnapshot:
        """The snapshot, which must be the one from nothing."""
        self.told.clear()
        grown, scratch = build_snapshot(self.request(memory=True)), build_snapshot(self.request(memory=False))
        assert grown.manifest == scratch.manifest
        assert grown.report == scratch.report
        assert grown.quarantined == scratch.quarantined
        assert grown.assigned == scratch.assigned
        assert grown.rows == scratch.rows
        self.known |= grown.assigned
        return grown

    @property
    def extended(self) -> bool:
        return any("rows are new" in line for line in self.told)

    @property
    def why_not(self) -> str:
        return next((line for line in self.told if line.startswith("all rows are read")), "")


def jsonl(path: Path, rows: list[Json], mode: str = "w") -> None:
    with path.open(mode, encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def as_csv(path: Path, rows: list[Json], mode: str = "w") -> None:
    with path.open(mode, encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ("text", "label", "who"), lineterminator="\n", restval="")
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)


WRITERS = {"jsonl": jsonl, "csv": as_csv}
FIRST = messages(40, "a") + messages(40, "b", 500)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    jsonl(tmp_path / "d.jsonl", FIRST)
    made = Desk(tmp_path, {"path": "d.jsonl"})
    made.curate()
    assert not made.extended
    return made


def test_appended_rows_give_the_snapshot_from_nothing_again_and_again(desk: Desk) -> None:
    for start in (1000, 2000, 3000):
        jsonl(desk.folder / "d.jsonl", messages(7, "a", start) + messages(3, "c", start + 500), "a")
        built = desk.curate()
        assert desk.extended
    assert built.manifest.read == 110


@pytest.mark.parametrize("more", [3, 200, 1])
def test_columns_of_appended_rows_are_those_of_the_file(desk: Desk, more: int) -> None:
    """Of very many columns none is kept, whether they came at once or not."""
    for start in (1000, 2000):
        rows = [row | {f"extra {start + number}": "x" for number in range(more)} for row in messages(5, "a", start)]
        jsonl(desk.folder / "d.jsonl", rows, "a")
        source = desk.curate().manifest.sources["d.jsonl"]
        assert desk.extended
    assert source.rows == 90
    assert len(source.columns) == (0 if more == 200 else 2 + 2 * more)


def test_nothing_appended_is_the_same_snapshot(desk: Desk) -> None:
    first = desk.curate()
    assert desk.extended
    assert desk.curate() == first


@pytest.mark.parametrize("form", WRITERS)
def test_copies_near_copies_quotes_and_poor_rows_may_be_appended(tmp_path: Path, form: str) -> None:
    policy = CurationPolicy(
        privacy=PrivacyPolicy(kinds={PersonalKind.EMAIL: PrivacyAction.REDACT, PersonalKind.CARD: PrivacyAction.DROP}),
        quality=QualityPolicy(drop=(QualityRule.MARKUP,)),
    )
    path, write = tmp_path / f"d.{form}", WRITERS[form]
    long = "when i tried to pay with my new card in the shop down the road it was refused twice"
    write(path, [*FIRST, {"text": LEFT, "label": "a"}, {"text": f"{long} write me at ann@example.org", "label": "b"}])
    desk = Desk(tmp_path, {"path": path.name}, policy=policy)
    desk.curate()
    write(
        path,
        [
            FIRST[3],
            {"text": MIDDLE, "label": "b"},
            {"text": f"somebody said: {long}, and nobody knew", "label": "a"},
            {"text": "<div>no text</div>", "label": "a"},
            {"text": "card 4111 1111 1111 1111", "label": "b"},
            {"text": "ask bob@example.org, or ask the other one", "label": "b"},
            {"text": LEFT, "label": "b"},
            {"text": "", "label": "a"},
        ],
        "a",
    )
    built = desk.curate()
    assert desk.extended
    assert {entry.code for entry in built.quarantined} == {"quality_markup", "personal_data", "empty_text"}
    assert built.manifest.near_duplicate_groups == 2
    assert any("[EMAIL]" in row.text for row in built.rows)


def test_a_row_that_bridges_train_and_test_is_set_aside_as_from_nothing(tmp_path: Path) -> None:
    jsonl(tmp_path / "d.jsonl", [*FIRST, {"text": LEFT, "label": "a"}])
    jsonl(tmp_path / "test.jsonl", [*others(5000), {"text": RIGHT, "label": "a"}])
    desk = Desk(tmp_path, {"path": "d.jsonl", "split": "train"}, {"path": "test.jsonl", "split": "test"})
    desk.objective = desk.objective.model_copy(
        update={"data": (*desk.objective.data, desk.objective.data[0].model_copy(update={"path": "dev.jsonl", "split": "dev"}))}
    )
    jsonl(tmp_path / "dev.jsonl", others(9000))
    desk.curate()
    jsonl(tmp_path / "d.jsonl", [{"text": MIDDLE, "label": "a"}], "a")
    built = desk.curate()
    assert desk.extended
    assert [entry.code for entry in built.quarantined] == ["bridges_splits"]
    jsonl(tmp_path / "d.jsonl", [{"text": MIDDLE + "!", "label": "b"}, *messages(3, "a", 1500)], "a")
    assert len(desk.curate().quarantined) == 2
    assert desk.extended


def test_a_row_near_one_that_was_set_aside_is_compared_with_its_text_in_the_file(tmp_path: Path) -> None:
    jsonl(tmp_path / "d.jsonl", [*FIRST, {"text": LEFT, "label": "a"}])
    jsonl(tmp_path / "test.jsonl", [*others(5000), {"text": LEFT + "!", "label": "b"}])
    desk = Desk(tmp_path, {"path": "d.jsonl"}, {"path": "test.jsonl", "split": "test"})
    assert [entry.code for entry in desk.curate().quarantined] == ["contaminates_test"]
    jsonl(tmp_path / "d.jsonl", [{"text": MIDDLE, "label": "a"}, {"text": LEFT.upper(), "label": "a"}], "a")
    built = desk.curate()
    assert ([entry.code for entry in built.quarantined], built.manifest.duplicates) == (["contaminates_test"] * 2, 1)
    assert desk.extended


def test_what_becomes_a_phrase_ties_earlier_rows_no_longer(tmp_path: Path) -> None:
    phrase = "please send the form to the office in the main street"
    held = [{"text": f"{phrase} {end}", "label": "a"} for end in ("today or as soon as you possibly can manage it", "now")]
    jsonl(tmp_path / "d.jsonl", [*FIRST, *held])
    desk = Desk(tmp_path, {"path": "d.jsonl"})
    assert desk.curate().manifest.near_duplicate_groups == 1
    more = [{"text": f"{row['text']} and {phrase} {row['text']} indeed", "label": "b"} for row in messages(12, "x", 3000)]
    jsonl(tmp_path / "d.jsonl", more, "a")
    assert desk.curate().manifest.near_duplicate_groups == 0
    assert desk.extended
    jsonl(tmp_path / "d.jsonl", messages(4, "b", 4000), "a")
    desk.curate()
    assert desk.extended


def test_a_further_source_is_an_append_too(desk: Desk) -> None:
    jsonl(desk.folder / "more.jsonl", messages(5, "a", 1000))
    sources = (*desk.objective.data, desk.objective.data[0].model_copy(update={"path": "more.jsonl"}))
    desk.objective = desk.objective.model_copy(update={"data": sources})
    assert desk.curate().manifest.read == 85
    assert desk.extended


Change = Any


def _edited(desk: Desk) -> None:
    jsonl(desk.folder / "d.jsonl", [FIRST[0] | {"text": "another text for the first of all"}, *FIRST[1:]])


def _removed(desk: Desk) -> None:
    jsonl(desk.folder / "d.jsonl", FIRST[1:])


def _policy(desk: Desk) -> None:
    policy = CurationPolicy(quality=QualityPolicy(max_characters=40, drop=(QualityRule.TOO_LONG,)))
    desk.objective = desk.objective.model_copy(update={"curation": policy})


def _erased(desk: Desk) -> None:
    desk.amendments = replace(desk.amendments, erased=frozenset({"subject:" + "0" * 32}))


def _between(desk: Desk) -> None:
    desk.known["sha256:" + "0" * 64] = ("train", "sha256:" + "1" * 64)


def _cut(desk: Desk) -> None:
    path = desk.memory / "rows.npz"
    path.write_bytes(path.read_bytes()[:-1000])


def _spoiled(desk: Desk) -> None:
    path = desk.memory / "rows.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _of_two(desk: Desk) -> None:
    facts = (desk.memory / "facts.npz").read_bytes()
    desk.memory.joinpath("facts.npz").unlink()
    desk.curate()
    desk.memory.joinpath("facts.npz").write_bytes(facts)


def _no_disk(desk: Desk) -> None:
    forget(desk.memory)
    desk.memory.rmdir()
    desk.memory.write_text("a file where the folder should be")
    jsonl(desk.folder / "d.jsonl", messages(3, "a", 2000), "a")
    desk.curate()
    desk.memory.unlink()


def _forgotten(desk: Desk) -> None:
    forget(desk.memory)


def _no_end(desk: Desk) -> None:
    path = desk.folder / "d.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    build_snapshot(desk.request(memory=True))
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize("change", [_edited, _removed, _policy, _erased, _between, _cut, _spoiled, _of_two, _no_disk, _forgotten, _no_end])
def test_whatever_is_no_append_is_built_from_all_rows(desk: Desk, change: Change) -> None:
    change(desk)
    jsonl(desk.folder / "d.jsonl", messages(3, "a", 1000), "a")
    desk.curate()
    assert not desk.extended
    assert bool(desk.why_not) is (change not in (_no_disk, _forgotten))
    jsonl(desk.folder / "d.jsonl", messages(3, "b", 1500), "a")
    desk.curate()
    assert desk.extended


def test_retention_that_ends_is_heeded(tmp_path: Path) -> None:
    rows = [row | {"until": "2026-01-31"} for row in messages(5, "a", 3000)]
    jsonl(tmp_path / "d.jsonl", [*(row | {"until": None} for row in FIRST), *rows])
    desk = Desk(tmp_path, {"path": "d.jsonl", "terms": {"retain_until": "until"}})
    desk.amendments = replace(desk.amendments, today=date(2026, 1, 1))
    desk.curate()
    jsonl(tmp_path / "d.jsonl", [row | {"until": "2027-01-01"} for row in messages(2, "b", 4000)], "a")
    desk.curate()
    assert desk.extended
    desk.amendments = replace(desk.amendments, today=date(2026, 2, 1))
    assert desk.curate().manifest.removed == 5
    assert not desk.extended


def test_what_cannot_be_read_in_the_appended_part_is_found_with_its_line(desk: Desk) -> None:
    with (desk.folder / "d.jsonl").open("ab") as stream:
        stream.write(b'{"text": "\xff\xff", "label": "a"}\n')
    with pytest.raises(DataInvalid, match=r"d\.jsonl:81"):
        build_snapshot(desk.request(memory=True))


def test_no_text_is_kept(tmp_path: Path) -> None:
    rows = [row | {"who": f"customer {number}"} for number, row in enumerate(FIRST)]
    jsonl(tmp_path / "d.jsonl", rows)
    desk = Desk(tmp_path, {"path": "d.jsonl", "subject": "who"})
    desk.curate()
    kept = b"".join(path.read_bytes() for path in desk.memory.iterdir())
    assert not any(word.encode() in kept for row in rows for word in (row["text"], row["who"]))


def test_answers_grow_too(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": f"Answer {n}."} for n, row in enumerate(messages(60, "x"))]
    jsonl(tmp_path / "d.jsonl", rows)
    desk = Desk(tmp_path, {"path": "d.jsonl"}, kind=TaskKind.GENERATE)
    desk.curate()
    jsonl(tmp_path / "d.jsonl", [{"text": row["text"], "label": f"More {n}."} for n, row in enumerate(messages(9, "x", 500))], "a")
    desk.curate()
    assert desk.extended


def test_what_another_version_kept_is_not_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(state, "VERSION", "2")
        build_snapshot(desk.request(memory=True))
    desk.curate()
    assert "all rows are read: what is kept is of another version" in desk.told


def test_a_copy_of_an_official_test_row_is_told_again_each_time(tmp_path: Path) -> None:
    jsonl(tmp_path / "d.jsonl", FIRST)
    jsonl(tmp_path / "test.jsonl", others(7000))
    desk = Desk(tmp_path, {"path": "d.jsonl"}, {"path": "test.jsonl", "split": "test"})
    desk.curate()
    jsonl(tmp_path / "d.jsonl", others(7000)[:1], "a")
    found = [desk.curate().manifest for _ in range(3)]
    assert found[0].quarantined == 1
    assert found[0] == found[1] == found[2]


EDITS = st.sampled_from(["append", "append", "append", "append", "edit", "remove", "test"])


@settings(max_examples=25, deadline=None)
@given(first=ROWS, steps=st.lists(st.tuples(EDITS, ROWS), min_size=1, max_size=4), form=st.sampled_from(list(WRITERS)))
def test_any_history_gives_the_snapshot_from_nothing(
    first: list[Json], steps: list[tuple[str, list[Json]]], form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("history")
    rows, test, write = [*GROUND, *first], others(7000), WRITERS[form]
    write(folder / f"d.{form}", rows)
    write(folder / f"test.{form}", test)
    desk = Desk(folder, {"path": f"d.{form}", "subject": "who"}, {"path": f"test.{form}", "subject": "who", "split": "test"})
    desk.curate()
    for edit, more in steps:
        if edit == "append":
            rows += more
            write(folder / f"d.{form}", more, "a")
        elif edit == "test":
            test += more
            write(folder / f"test.{form}", more, "a")
        else:
            rows = rows[:80] + ([{"text": "an edited row", "label": "a", "who": ""}] if edit == "edit" else []) + rows[82:] + more
            write(folder / f"d.{form}", rows)
        desk.curate()
