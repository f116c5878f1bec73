"""Curation: every row accounted for, every reason counted, nothing poor or protected learned from."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.data import Store, build, make_objective
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.data import BuiltSnapshot
from tailorbird.domain.curation import CurationPolicy, CurationReport, ProtectedSet, QualityPolicy, QualityRule, RowFinding
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind

R = QualityRule


QUESTION = "where can i use this card when i am travelling in the whole country next month"


def write(folder: Path, rows: list[dict[str, Any]], name: str = "d.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def ground(count: int = 80) -> list[dict[str, Any]]:
    """Rows with nothing in common."""
    words = [(n, "".join(Random(n).sample("abcdefghijklmnopqrstuvwxyz", 7))) for n in range(count)]
    return [{"text": f"{word} {word[::-1]} {word[2:] + word} asks about {n}", "label": "ab"[n % 2]} for n, word in words]


def built_with(folder: Path, policy: CurationPolicy, store: Store | None = None, **source: Any) -> BuiltSnapshot:
    return build(make_objective({"path": "d.jsonl", **source}).model_copy(update={"curation": policy}), folder, store=store)


def test_every_row_is_accounted_for_from_step_to_step(tmp_path: Path) -> None:
    poor = [{"text": "see &nbsp; this", "label": "a"}, {"text": "", "label": "a"}, {"text": "helloooooooooooo", "label": "b"}]
    again = [{"text": "ONCE more please", "label": "a"}, {"text": "once more  please", "label": "a"}]
    store = Store()
    policy = CurationPolicy(quality=QualityPolicy(drop=(R.MARKUP,)))
    built = built_with(write(tmp_path, [*ground(), *poor, *again]), policy, store)
    flow = built.report.flow
    assert [step.name for step in flow] == ["read", "personal data", "amendments", "quality", "exact duplicates", "splits"]
    assert (flow[0].before, flow[-1].after) == (built.manifest.read, len(built.rows))
    assert all(one.after == other.before for one, other in pairwise(flow))
    assert all(step.before - step.after == sum(step.reasons.values()) for step in flow)
    assert {code: count for step in flow for code, count in step.reasons.items()} == {
        "empty_text": 1,
        "quality_markup": 1,
        "exact_duplicate": 1,
    }
    assert built.report.quality == {"markup": 1, "repetition": 1}
    findings = [RowFinding.model_validate_json(line) for line in store.get(built.report.findings or "").splitlines()]
    assert [(one.line, one.code, one.action) for one in findings] == [
        (81, "quality.markup", "drop"),
        (83, "quality.repetition", "reported"),
    ]
    assert CurationReport.model_validate_json(store.get(built.manifest.curation or "")) == built.report


def test_groups_tell_conflicting_labels(tmp_path: Path) -> None:
    conflict = [{"text": "i have lost my blue card today", "label": "a"}, {"text": "i have lost my blue card todayy", "label": "b"}]
    built = built_with(write(tmp_path, ground() + conflict), CurationPolicy())
    assert (built.report.group_count, built.report.conflicting_groups, built.manifest.near_duplicate_groups) == (1, 1, 1)
    group = built.report.groups[0]
    assert (group.labels, group.conflicting, len(group.rows)) == ({"a": 1, "b": 1}, True, 2)


def test_near_duplicates_can_be_dropped_within_a_label(tmp_path: Path) -> None:
    alike = [{"text": f"i have lost my blue card today{mark}", "label": "a"} for mark in ("", "!", "?")]
    built = built_with(
        write(tmp_path, [*ground(), *alike, {"text": "i have lost my blue card today.", "label": "b"}]),
        CurationPolicy(near_duplicates="drop"),
    )
    assert sorted(row.target for row in built.rows if "blue card" in row.text) == ["a", "b"]
    assert [entry.code for entry in built.quarantined] == ["near_duplicate"] * 2


def test_no_row_like_a_protected_text_is_learned_from(tmp_path: Path) -> None:
    write(tmp_path, [{"question": QUESTION}, {"question": "a text of another kind"}, {"question": 7}], "held.jsonl")
    quoted = f"a customer wrote yesterday and nobody knew: {QUESTION} and i said that we would come back to it soon enough"
    planted = [QUESTION, QUESTION.upper(), QUESTION.replace("travelling", "traveling"), quoted]
    rows = [*ground(), *({"text": text, "label": "a"} for text in planted)]
    policy = CurationPolicy(protected=(ProtectedSet(path="held.jsonl", text="question"),))
    built = built_with(write(tmp_path, rows), policy)
    assert not any("card" in row.text.casefold() for row in built.rows)
    assert {entry.code for entry in built.quarantined} == {"contaminates_protected"}
    assert [(one.protected, one.rows) for one in built.report.contamination] == [("held.jsonl", 3)]
    assert built.manifest.duplicates == 1
    assert "card" not in "".join(entry.reason for entry in built.quarantined)


def test_a_protected_set_without_texts_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [{"other": "x"}], "held.jsonl")
    with pytest.raises(DataInvalid) as caught:
        built_with(write(tmp_path, ground()), CurationPolicy(protected=(ProtectedSet(path="held.jsonl"),)))
    assert caught.value.error_code in {"protected_empty", "column_missing"}


def test_no_rows_left_is_refused_with_the_most_frequent_reason(tmp_path: Path) -> None:
    rows = [{"text": f"{row['text']} &nbsp;", "label": row["label"]} for row in ground()]
    with pytest.raises(DataInvalid) as caught:
        built_with(write(tmp_path, rows), CurationPolicy(quality=QualityPolicy(drop=(R.MARKUP,))))
    assert caught.value.error_code == "data_invalid"
    assert "quality_markup (80 rows)" in caught.value.hint


def test_balance_and_coverage_are_told(tmp_path: Path) -> None:
    rare = [{"text": "quite another question of zzz", "label": "rare"}, {"text": "something about the yyy xxx", "label": "rare"}]
    profile = built_with(write(tmp_path, ground(200) + rare), CurationPolicy()).report.profile
    assert [one.label for one in profile.classes if one.rare] == ["rare"]
    assert profile.imbalance == 50.0
    assert sum(one.rows for one in profile.lengths) == 202
    assert all(one.start < one.end for one in profile.lengths)
    assert 0.1 < profile.smallest_provable < 0.25


def test_a_row_is_stored_in_canonical_form_without_being_made(tmp_path: Path) -> None:
    rows = [*ground(), {"text": 'quote " back \\ tab \t nul-free \x7f \u2028 é 😀', "label": "a"}]
    store = Store()
    built = built_with(write(tmp_path, rows), CurationPolicy(), store)
    lines = store.get(built.manifest.rows).splitlines()
    assert lines == [canonical_json(row) for row in built.rows]
    assert [Row.model_validate_json(line).id for line in lines] == sorted(row.id for row in built.rows)


def test_answers_are_judged_and_labels_are_not(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": "As an AI language model, I cannot."} for row in ground(10)]
    objective = make_objective({"path": "d.jsonl"}, kind=TaskKind.GENERATE)
    assert build(objective, write(tmp_path, rows)).report.quality == {"refusal": 10}


def test_a_split_is_never_on_both_sides_of_a_quotation(tmp_path: Path) -> None:
    quoted = [{"text": f"{QUESTION} said customer {n} of ours on the telephone today", "label": "ab"[n % 2]} for n in range(4)]
    built = built_with(write(tmp_path, [*ground(), {"text": QUESTION, "label": "a"}, *quoted]), CurationPolicy())
    assert len({row.split for row in built.rows if "whole country" in row.text}) == 1
    assert {row.split for row in built.rows} == set(Split)
