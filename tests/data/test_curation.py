"""Curation: every row accounted for, every reason counted, nothing poor or protected learned from."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from support.data import Store, build, make_objective
from tailorbird.data import BuiltSnapshot
from tailorbird.domain.curation import CurationPolicy, CurationReport, ProtectedSet, QualityPolicy, QualityRule, RowFinding

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
