"""Conversations in a run: with ``learn: all`` each answer is measured, in the group of its conversation; else the plan says what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from support.usecases import write_objective
from tailorbird.data import answer_items
from tailorbird.domain.dataset import Split
from tailorbird.domain.evidence import Evidence
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.erase import kept_indexes
from tailorbird.usecases.erasure.lineage import SubjectData
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.engine import stage_of

SILENT = Progress()


def talk(number: int) -> list[dict[str, str]]:
    """The twin answers with the words of the last message in capitals, which is what is wanted here."""
    words = " ".join(f"{chr(97 + place)}{(number * factor) % 9973}" for place, factor in enumerate((31, 577, 1009, 4001)))
    said = [f"one {words}", f"ONE {words}".upper(), f"two {words}", f"TWO {words}".upper()]
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(said)]


def write_chat(folder: Path, **task: Any) -> Path:
    path = write_objective(folder)
    (folder / "talks.jsonl").write_text("".join(json.dumps({"chat": talk(number)}) + "\n" for number in range(150)))
    content = yaml.safe_load(path.read_text()) | {
        "task": {"kind": "generate", "instruction": "Answer.", **task},
        "data": [{"path": "talks.jsonl", "messages": "chat", "source": {"origin": "written for this test", "license": "Apache-2.0"}}],
        "kpis": [{"metric": "token_f1", "target": 0.5}],
        "ladder": ["prompt"],
    }
    del content["floor"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_answer_of_a_conversation_is_measured(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    ended = climbing.adapt(deps, author, write_chat(tmp_path / "job", learn="all"), SILENT)
    assert ended.conclusion.release is not None
    context = stage_of(deps, author, ended.run, SILENT)
    on_test = context.record(Evidence, context.looks[0].evidence)
    for evidence in (context.climbs[0].evidence, on_test):
        rows = getattr(context.manifest.counts, evidence.split.value)
        items = context.items(evidence.items)
        assert evidence.n == len(items) == 2 * rows
        assert len({item.group for item in items}) == rows
    assert {power.n for power in context.plan.test_power} == {on_test.n}


def test_an_index_that_holds_an_earlier_answer_alone_is_found_by_an_erasure(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The longest texts are not indexed, so that an earlier answer may stand there without the row's own."""
    found = climbing.plan(deps, author, write_chat(tmp_path / "job", learn="all"), SILENT)
    row = found.rows(Split.TRAIN)[0]
    first, last = answer_items(row, found.manifest)
    folder, kept = tmp_path / "index", deps.indexes("acme")
    folder.mkdir()
    words = {"id": first.id, "text": "one line\u2028and another\x85of a text"}
    (folder / "entries.jsonl").write_text(json.dumps(words, ensure_ascii=False) + "\n", encoding="utf-8")
    tree = deps.artifacts.put_tree(folder)
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "made.txt").write_text(tree)
    assert kept_indexes(deps, "acme", {"sha256:0": SubjectData((row,), answers=(first, last))}) == {tree}
    assert kept_indexes(deps, "acme", {"sha256:0": SubjectData((row,), answers=(last,))}) == set()
